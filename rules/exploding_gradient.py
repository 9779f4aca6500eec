"""GL803: the gradient of a layer is orders of magnitude larger than it ever was."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence, Severity
from gradcheck_lint.rule import Rule
from gradcheck_lint.runtime.layers import layer
from gradcheck_lint.runtime.sightings.numbers import GradientExplodes

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting


class ExplodingGradient(Rule):
    code = "GL803"
    slug = "exploding-gradient"
    severity = Severity.WARNING
    witnesses = frozenset({"run"})
    watches = (GradientExplodes,)

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        assert isinstance(sighting, GradientExplodes)
        now, usual = sighting.now, sighting.usual
        report(
            "a gradient has exploded",
            label=f"{sighting.at_step}: the gradient of {layer(sighting)} is {now:.3g}, where {usual:.3g} was usual",
            why="one such step moves the weights out of all that was learned before",
            help="lower the learning rate, or call `torch.nn.utils.clip_grad_norm_` before the step",
            related=[("built here", sighting.built)],
            confidence=Confidence.HIGH if sighting.extreme else Confidence.MEDIUM,
        )
