"""GL805: each update is about as large as the weights themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence, Severity
from gradcheck_lint.rule import Rule
from gradcheck_lint.runtime.layers import layer
from gradcheck_lint.runtime.sightings.numbers import UpdateExtreme

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting


class UpdateRatioExtreme(Rule):
    code = "GL805"
    slug = "update-ratio-extreme"
    severity = Severity.WARNING
    witnesses = frozenset({"run"})
    watches = (UpdateExtreme,)

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        assert isinstance(sighting, UpdateExtreme)
        name = sighting.optimizer.label if sighting.optimizer else "the optimizer"
        ratio = sighting.now
        report(
            "an update is as large as the weights that it changes",
            label=f"{sighting.at_step}: {layer(sighting)} moved by {ratio:.2g} times the size of its weights",
            why="what was learned before is overwritten at each step; about a thousandth is usual",
            help=f"lower the learning rate of `{name}`",
            related=[("built here", sighting.built)],
            confidence=Confidence.HIGH if sighting.extreme else Confidence.MEDIUM,
        )
