"""GL102: gradients are cleared outside the loop over the batches, but the step is inside."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence, Fix, Safety, Severity
from gradcheck_lint.laws.cycle import STALE_STEP
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.runtime.sighting import written
from gradcheck_lint.runtime.sightings.order import StaleStep
from gradcheck_lint.source.events import Step, Zero

if TYPE_CHECKING:
    from gradcheck_lint.facts.turns import Carried
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting
    from gradcheck_lint.source.breach import Breach
    from gradcheck_lint.source.timeline import Timeline


class ZeroGradOncePerEpoch(Rule):
    code = "GL102"
    slug = "zero-grad-once-per-epoch"
    severity = Severity.ERROR
    fix = Safety.UNSAFE
    witnesses = frozenset({"source", "run"})
    needs = (Zero,)
    breaches = frozenset({STALE_STEP})
    watches = (StaleStep,)

    def on_breach(self, breach: Breach, report: Report) -> None:
        from gradcheck_lint.facts.repair import text
        from gradcheck_lint.facts.turns import OUTSIDE, carried, optimizer_of

        found = carried(breach)
        if found is None or found.how != OUTSIDE or found.cleared is None:
            return
        name = optimizer_of(breach.step)
        report(
            found.made.place,
            "gradients are cleared outside of the loop in which the step is",
            label="adds to the gradients of all rounds of this loop before it",
            why="only the first update after the clearing is clean, each later one repeats the batches before it",
            help=f"call `{name}.zero_grad()` before `{text(found.made.place)}`, or move the step out of the loop",
            note="for accumulation, clear after each step, under the same condition as the step",
            related=[("clears them, but not in each round", found.cleared.place), ("uses them", breach.event.place)],
            fix=self.mend(breach, found, name),
            confidence=Confidence.HIGH if found.certain else Confidence.MEDIUM,
        )

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        from gradcheck_lint.facts.clearing import cleared_before_windows, first_only
        from gradcheck_lint.facts.repair import text
        from gradcheck_lint.facts.turns import optimizer_of

        for window, cleared in cleared_before_windows(timeline):
            name = optimizer_of(window.step)
            report(
                window.backward.place,
                "gradients are cleared outside of the loop in which the step is",
                label="adds to the gradients of all windows of this loop before it",
                why="only the first update after the clearing is clean, each later one repeats the batches before it",
                help=f"call `{name}.zero_grad()` after each step, under the same condition",
                related=[("clears them, but not after each step", cleared.place), ("uses them", window.step.place)],
            )
        for found in first_only(timeline):
            name = optimizer_of(found.step)
            report(
                found.made.place,
                "gradients are cleared in the first round of the loop only",
                label="adds to the gradients of all rounds of this loop before it",
                why="only the first update is clean, each later one repeats the batches before it",
                help=f"call `{name}.zero_grad()` before `{text(found.made.place)}` in each round",
                note="for accumulation, clear after each step, under the same condition as the step",
                related=[("clears them, in the first round", found.cleared.place), ("uses them", found.step.place)],
            )

    def mend(self, breach: Breach, found: Carried, name: str) -> Fix | None:
        """Move the clearing to the backward, where it clears this one optimizer and nothing else."""
        from gradcheck_lint.facts.repair import delete, insert_before, stand, text
        from gradcheck_lint.facts.turns import alone, beside

        here = stand(found.made.statement)
        if here is None or not found.certain or found.cleared is None:
            return None
        outer = alone(found.cleared)
        if outer is None or outer.alone or text(found.cleared.place) != f"{name}.zero_grad()":
            return None
        if found.cleared.function is not found.made.function:
            return None
        if not any(step.event.place == breach.event.place for step in beside(breach, found.made, Step)):
            return None
        edits = (delete(outer), insert_before(here, f"{name}.zero_grad()"))
        return Fix(f"move `{name}.zero_grad()` into the loop", Safety.UNSAFE, edits)

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        assert isinstance(sighting, StaleStep)
        if not sighting.clears or sighting.again or (sighting.closure is not None and sighting.searches):
            return  # GL101 and GL113 are about those
        if (sighting.tally.times < 2 and sighting.outside is None) or sighting.stopped:
            return  # once may be where one phase of the training ends; GL101 is about the other
        name = sighting.optimizer.label if sighting.optimizer else "optimizer"
        backward = written(sighting.made, "loss.backward()")
        report(
            "gradients are cleared outside of the loop in which the step is",
            site=sighting.made,
            label=f"{sighting.at_step}: the gradients of the step before were still there when backward ran",
            why="only the first update after a clearing is clean, each later one repeats the batches before it",
            help=f"call `{name}.zero_grad()` before `{backward}`, or move the step out of the loop",
            note="for accumulation, clear after each step, under the same condition as the step",
            related=[
                (
                    "cleared here, after the loop" if sighting.outside is not None else "cleared last here",
                    sighting.clearing,
                ),
                ("uses them", sighting.site),
            ],
        )
