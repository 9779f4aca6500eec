"""GL104: the step runs with no gradient that was made since the last clearing or the last step."""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence, Fix, Safety, Severity
from gradcheck_lint.laws.cycle import EMPTY_STEP, ERASED_STEP, NOTHING_NEW
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.runtime.call import Call
from gradcheck_lint.runtime.sightings.order import EmptyStep, ErasedStep, ScalerRefused
from gradcheck_lint.source.events import Backward, Clip, Schedule, Step, Unscale, Zero

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting
    from gradcheck_lint.source.breach import Breach


class StepWithoutBackward(Rule):
    code = "GL104"
    slug = "step-without-backward"
    severity = Severity.ERROR
    fix = Safety.SAFE
    witnesses = frozenset({"source", "run"})
    breaches = frozenset({EMPTY_STEP, ERASED_STEP})
    watches = (EmptyStep, ErasedStep, ScalerRefused)
    yields_to = frozenset({("GL115", "optimizer")})

    def on_breach(self, breach: Breach, report: Report) -> None:
        from gradcheck_lint.facts import rebuilt
        from gradcheck_lint.facts.repair import text
        from gradcheck_lint.facts.turns import erased_on_some_path, swapped, trained

        if breach.kind == ERASED_STEP and not swapped(breach):
            return  # GL103
        if breach.kind == EMPTY_STEP and erased_on_some_path(breach):
            return  # GL103
        if not trained(breach):
            return  # a step that warms a schedule up, or shows one
        if rebuilt.before(breach) is not None:
            return  # GL401
        step = text(breach.event.place)
        fix = self.mend(breach, step)
        report(
            breach.event.place,
            "the step has no new gradients",
            label="no backward has run since the last clearing or the last step",
            why="without gradients a step does nothing, and with used ones it makes the same update again",
            help=f"call `{step}` after the backward" if fix else f"run backward before `{step}`, or drop this step",
            related=[("the last backward", made.place) for made in breach.made],
            fix=fix,
            confidence=Confidence.HIGH if breach.certain else Confidence.MEDIUM,
        )

    def mend(self, breach: Breach, step: str) -> Fix | None:
        """Move the step behind the backward that follows it in its block, before anything clears that one again.

        What is done to the gradients after that backward, unscaling and clipping, stays before the step. Where another
        optimizer steps too, the backward that follows may be for that one, and nothing is moved.
        """
        from gradcheck_lint.facts.repair import move_after
        from gradcheck_lint.facts.turns import alone, beside

        here = alone(breach.event)
        if here is None or not breach.certain:
            return None
        timeline = breach.timeline
        if not all(event.concerns(breach.optimizer) for event in timeline.events(Step)):
            return None
        around = beside(breach, breach.event, Backward, Zero, Step, Clip, Unscale, Schedule)
        later = [b for b in around if b.stand.position > here.position]
        if not later or not isinstance(later[0].event, Backward):
            return None
        if any(isinstance(b.event, Backward) and b.stand.position < here.position for b in around):
            return None  # a second step after that one
        ready = [later[0], *takewhile(lambda b: isinstance(b.event, (Clip, Unscale)), later[1:])]
        seen = {id(b.event.place.node) for b in ready}
        if any(id(event.place.node) not in seen for event in timeline.events(Clip, Unscale)):
            return None  # in a place from which the step cannot be kept
        return Fix(f"move `{step}` behind the backward", Safety.SAFE, move_after(here, ready[-1].stand))

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        if isinstance(sighting, ScalerRefused):
            if sighting.call is not Call.SCALER_STEP or sighting.gradient not in NOTHING_NEW:
                return
        elif isinstance(sighting, (EmptyStep, ErasedStep)):
            if not sighting.tally.always or sighting.closure is not None:
                return  # this line mostly finds gradients, or GL113
            if isinstance(sighting, ErasedStep) and sighting.began not in NOTHING_NEW:
                return  # GL103
        step = sighting.source("optimizer.step()")
        missed = isinstance(sighting, EmptyStep) and sighting.elsewhere
        report(
            "the step has no new gradients",
            label=f"{sighting.at_step}: no backward so far had reached anything that it holds"
            if missed
            else f"{sighting.at_step}: no backward had run since the last clearing or the last step",
            why="without gradients a step does nothing, and with used ones it makes the same update again",
            help="look where the loss loses them: `.detach()`, `.data`, `no_grad`, or copies in their place"
            if missed
            else f"run backward before `{step}`, or drop this step",
            related=[
                *([("cut off here", sighting.cut)] if isinstance(sighting, EmptyStep) else ()),
                ("the last backward", sighting.backward),
            ],
        )
