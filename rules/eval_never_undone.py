"""GL501: training goes on in evaluation mode."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence, Severity
from gradcheck_lint.rule import Rule
from gradcheck_lint.runtime.layers import told
from gradcheck_lint.runtime.sightings.mode import EvalAtStep

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting


class EvalNeverUndone(Rule):
    code = "GL501"
    slug = "eval-never-undone"
    severity = Severity.ERROR
    witnesses = frozenset({"run"})
    watches = (EvalAtStep,)

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
