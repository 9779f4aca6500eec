"""GL501: training goes on in evaluation mode."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence, Fix, Safety, Severity
from gradcheck_lint.laws.answer import NO, YES
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.runtime.layers import told
from gradcheck_lint.runtime.sightings.mode import EvalAtStep
from gradcheck_lint.source.events import SetMode

if TYPE_CHECKING:
    from gradcheck_lint.facts.modes import Left
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting
    from gradcheck_lint.source.timeline import Timeline


class EvalNeverUndone(Rule):
    code = "GL501"
    slug = "eval-never-undone"
    severity = Severity.ERROR
    fix = Safety.SAFE
    witnesses = frozenset({"source", "run"})
    triggers = r"set_grad_enabled\("  # switches of grad mode, for GL404: what that has as triggers is read closely
    needs = (SetMode,)
    watches = (EvalAtStep,)

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        from gradcheck_lint.facts.caring import cares
        from gradcheck_lint.facts.modes import left_in_eval
        from gradcheck_lint.facts.query import receiver

        for left in left_in_eval(timeline):
            caring = cares(left.model)
            if caring is NO:
                continue
            meant = left.part and left.off.function is left.backward.function
            name = receiver(left.off) or "the model"
            related = [("trains on here", left.trained.place)]
            if left.once is not None:
                related.insert(0, ("in training mode until then", left.once.place))
            report(
                left.off.place,
                "training goes on in evaluation mode",
                label="nothing puts the model back before the next training step",
                why="dropout is off, and norm layers neither use nor follow the statistics of the batch",
                help=f"call `{name}.train()` after the evaluation, or before each epoch",
                related=related,
                fix=self.mend(timeline, left),
                confidence=Confidence.HIGH if caring is YES and left.held is YES and not meant else Confidence.MEDIUM,
            )

    def mend(self, timeline: Timeline, left: Left) -> Fix | None:
        """Put the model into training mode where the training begins, by the name that it has there."""
        from gradcheck_lint.facts.modes import head, in_parts
        from gradcheck_lint.facts.repair import insert_before, stand

        found = head(timeline, left)
        here = stand(found.statement) if found is not None else None
        if found is None or here is None:
            return None
        call = f"{found.name}.train()"
        safety = Safety.UNSAFE if in_parts(timeline, left.model) else Safety.SAFE
        return Fix(f"call `{call}` before the training goes on", safety, (insert_before(here, call),))

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        assert isinstance(sighting, EvalAtStep)
        call = sighting.source("eval()")
        model = sighting.module or "the model"
        names = sighting.names
        whose = f"layer {names[0]} is" if len(names) == 1 else f"{told(names, 'layers')} are"
        report(
            "training goes on in evaluation mode",
            label=f"{sighting.at_step}: since this call, before step {sighting.since}, "
            f"{whose} not in training mode any more",
            why="dropout is off, and norm layers neither use nor follow the statistics of the batch",
            help=f"call `{model}.train()` after the evaluation, before the next training step",
            note=f"where `{call}` is meant to freeze, call it on those layers alone, or freeze their parameters too",
            related=[("trains on here", sighting.step_at)],
            confidence=Confidence.HIGH if sighting.whole else Confidence.MEDIUM,
        )
