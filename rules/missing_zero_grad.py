"""GL101: backward adds to gradients that an earlier step already used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence, Fix, Safety, Severity
from gradcheck_lint.laws.cycle import STALE_STEP
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.runtime.sighting import written
from gradcheck_lint.runtime.sightings.order import StaleStep
from gradcheck_lint.source.events import Augment, Step, Write

if TYPE_CHECKING:
    from gradcheck_lint.facts.classes import ClassFacts
    from gradcheck_lint.facts.turns import Carried
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting
    from gradcheck_lint.source.breach import Breach
    from gradcheck_lint.source.timeline import Timeline


class MissingZeroGrad(Rule):
    code = "GL101"
    slug = "missing-zero-grad"
    severity = Severity.ERROR
    fix = Safety.SAFE
    witnesses = frozenset({"source", "run"})
    needs = (Augment, Write)
    breaches = frozenset({STALE_STEP})
    watches = (StaleStep,)
    yields_to = frozenset({("GL102", "line")})
    triggers = r"automatic_optimization|manual_backward\("

    def on_breach(self, breach: Breach, report: Report) -> None:
        from gradcheck_lint.facts.repair import text
        from gradcheck_lint.facts.turns import NEVER, carried, optimizer_of

        found = carried(breach)
        if found is None or found.how != NEVER:
            return
        if breach.step.closure is not None and breach.optimizer.class_name == "torch.optim.LBFGS":
            return  # GL113 tells what the closure lacks
        name = optimizer_of(breach.step)
        related = [("uses them, and leaves them", breach.event.place)]
        if found.cleared is not None:
            related.insert(0, ("clears them, and a step has used them since", found.cleared.place))
        report(
            found.made.place,
            "gradients are carried over from the previous step",
            label="adds to the gradients that the step before has used"
            if found.cleared is not None
            else "adds to the gradients left by the last iteration",
            why=f"`{text(breach.event.place)}` does not clear `.grad`, so every update repeats earlier batches",
            help=f"call `{name}.zero_grad()` before `{text(found.made.place)}`",
            note="for deliberate accumulation, clear once for each step; see `gradlint explain GL101`",
            related=related,
            fix=self.mend(breach, found, name),
            confidence=Confidence.HIGH if found.certain else Confidence.MEDIUM,
        )

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        from gradcheck_lint.facts.clearing import never_cleared_by_hand, second_passes
        from gradcheck_lint.facts.repair import text

        for both in second_passes(timeline):
            report(
                both.second.place,
                "the second pass adds to the gradients of the first",
                label="runs at other weights, on top of the gradients that moved them there",
                why="the step follows the sum of two gradients, each at other weights",
                help=f"clear the gradients before `{text(both.second.place)}`",
                related=[("the first pass", both.first.place), ("moves the weights", both.moved.place)],
            )
        for found in never_cleared_by_hand(timeline):
            target = text(found.moved.place).partition(".data")[0].partition(".sub_")[0].partition(".add_")[0]
            report(
                found.made.place,
                "gradients are carried over from the previous step",
                label="adds to the gradients left by the last iteration",
                why="nothing in the loop clears `.grad`, so every update repeats earlier batches",
                help=f"set `{target}.grad = None` after the update",
                related=[("uses them, and leaves them", found.moved.statement)],
            )

    def on_class(self, facts: ClassFacts, report: Report) -> None:
        """In Lightning's manual optimisation the module clears what it goes backward for."""
        from gradcheck_lint.facts.lightning_by_hand import never_cleared
        from gradcheck_lint.facts.lightning_steps import LightningFacts
        from gradcheck_lint.facts.repair import text

        module = LightningFacts.of(facts)
        for found in never_cleared(module) if module is not None else ():
            backward, step = found.method.place(found.backward), found.method.place(found.step)
            report(
                backward,
                "gradients are carried over from the previous step",
                label="adds to the gradients left by the last batch",
                why=f"in manual optimisation Lightning clears nothing, nor does `{text(step)}`",
                help=f"call `{found.name}.zero_grad()` before `{text(backward)}`",
                related=[("uses them, and leaves them", step)],
                confidence=Confidence.HIGH if found.certain else Confidence.MEDIUM,
            )

    def mend(self, breach: Breach, found: Carried, name: str) -> Fix | None:
        """Clear before the backward, where each round runs it and then the step."""
        from gradcheck_lint.facts.repair import insert_before, stand
        from gradcheck_lint.facts.turns import beside

        here = stand(found.made.statement)
        if here is None or not found.certain or not name:
            return None
        if not any(step.event.place == breach.event.place for step in beside(breach, found.made, Step)):
            return None
        return Fix(f"call `{name}.zero_grad()` first", Safety.SAFE, (insert_before(here, f"{name}.zero_grad()"),))

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        assert isinstance(sighting, StaleStep)
        late = sighting.clears and sighting.stopped and sighting.tally.times > 1
        if (
            (sighting.clears and not late and not sighting.again)
            or sighting.other
            or (sighting.closure is not None and sighting.searches)
        ):
            return  # GL102, GL106 and GL113 are about those
        name = sighting.optimizer.label if sighting.optimizer else "optimizer"
        backward = written(sighting.made, "loss.backward()")
        cleared = late or sighting.again
        before = ("cleared last here", sighting.clearing) if cleared else ("built here", sighting.built)
        step = sighting.source(f"{name}.step()")
        report(
            "gradients are carried over from the previous step",
            site=sighting.made,
            label=f"{sighting.at_step}: the gradients of the step before were still there when backward ran",
            why="they were cleared before each step until then, and are not any more: updates repeat earlier batches"
            if late
            else f"`{step}` does not clear `.grad`, so every update repeats earlier batches",
            help=f"call `{name}.zero_grad()` before `{backward}`{', whatever the step or epoch' if late else ''}",
            note="for deliberate accumulation, clear once for each step; see `gradlint explain GL101`",
            related=[("uses them, and leaves them", sighting.site), before],
        )
