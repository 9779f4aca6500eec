"""GL804: next to nothing of the gradient reaches a layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence, Severity
from gradcheck_lint.rule import Rule
from gradcheck_lint.runtime.layers import layer
from gradcheck_lint.runtime.sightings.numbers import GradientVanishes

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting


class VanishingGradient(Rule):
    code = "GL804"
    slug = "vanishing-gradient"
    severity = Severity.WARNING
    witnesses = frozenset({"run"})
    watches = (GradientVanishes,)

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        assert isinstance(sighting, GradientVanishes)
        name = sighting.names[0]
        was = "at every step so far" if sighting.always else f"it used to be {sighting.usual:.1e} of it"
        report(
            "hardly any gradient reaches a layer",
            label=f"{sighting.at_step}: {layer(sighting)} gets {sighting.now:.1e} of the whole gradient; {was}",
            why=f"`{name}` stays as it was initialised while the layers behind it learn",
            help=f"look at what lies between `{name}` and the loss: saturating activations, many layers without a "
            "residual connection or a norm, a factor near 0",
            related=[("built here", sighting.built)],
            confidence=Confidence.HIGH if sighting.extreme and sighting.always else Confidence.MEDIUM,
        )
