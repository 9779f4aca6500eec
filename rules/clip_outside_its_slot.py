"""GL107: gradients are clipped before backward has made them or after the step has used them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence, Fix, Safety, Severity
from gradcheck_lint.laws.cycle import EMPTY_CLIP, SPENT
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.runtime.sightings.order import EmptyClip
from gradcheck_lint.source.events import Backward, Step, Unscale, Update

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting
    from gradcheck_lint.source.breach import Breach


class ClipOutsideItsSlot(Rule):
    code = "GL107"
    slug = "clip-outside-its-slot"
    severity = Severity.WARNING
    fix = Safety.SAFE
    witnesses = frozenset({"source", "run"})
    breaches = frozenset({EMPTY_CLIP})
    watches = (EmptyClip,)

    def on_breach(self, breach: Breach, report: Report) -> None:
        from gradcheck_lint.facts.repair import text
        from gradcheck_lint.facts.turns import measures

        if measures(breach.clip):
            return
        name = breach.optimizer.label
        report(
            breach.event.place,
            "gradients are clipped where there are none to clip",
            label="runs before backward has made gradients, or after the step has used them",
            why="no update is ever limited, although the code reads as if it were",
            help=f"move `{text(breach.event.place)}` between the last backward and the step of `{name}`",
            fix=self.mend(breach),
            confidence=Confidence.HIGH if breach.certain else Confidence.MEDIUM,
        )

    def mend(self, breach: Breach) -> Fix | None:
        """Move the clipping before the step that it follows, or behind the backward that follows it."""
        from gradcheck_lint.facts.repair import move_after, move_before
        from gradcheck_lint.facts.turns import alone, beside

        here = alone(breach.event)
        if here is None or not breach.certain or list(breach.timeline.events(Unscale, Update)):
            return None
        around = beside(breach, breach.event, Backward, Step)
        own = [b for b in around if isinstance(b.event, Backward) or b.event.concerns(breach.optimizer)]
        before = [b for b in own if b.stand.position < here.position]
        after = [b for b in own if b.stand.position > here.position]
        if len(before) > 1 and isinstance(before[-1].event, Step) and isinstance(before[-2].event, Backward):
            return Fix("clip before the step", Safety.SAFE, move_before(here, before[-1].stand))
        if not before and [type(b.event) for b in after] == [Backward, Step]:
            return Fix("clip behind the backward", Safety.SAFE, move_after(here, after[0].stand))
        return None

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        assert isinstance(sighting, EmptyClip)
        if not sighting.tally.always:
            return  # this line mostly finds gradients
        name = sighting.optimizer.label if sighting.optimizer else "optimizer"
        done = "a step had used them" if sighting.gradient == SPENT else "no backward had made any"
        report(
            "gradients are clipped where there are none to clip",
            label=f"{f'after step {sighting.step}' if sighting.step else 'before the first step'} of {name}: {done}",
            why="no update is ever limited, although the code reads as if it were",
            help=f"move `{sighting.source('the clipping')}` between the last backward and the step of `{name}`",
            related=[("the step", sighting.stepped), ("the backward", sighting.backward)],
        )
