"""GL208: a plain tensor collects gradients, and neither an optimizer nor the program does anything with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence, Severity
from gradcheck_lint.rule import Rule
from gradcheck_lint.runtime.layers import told
from gradcheck_lint.runtime.sightings.holding import UnheldTensor

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting


class GradientToUntrackedLeaf(Rule):
    code = "GL208"
    slug = "gradient-to-untracked-leaf"
    severity = Severity.WARNING
    witnesses = frozenset({"run"})
    watches = (UnheldTensor,)

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        assert isinstance(sighting, UnheldTensor)
        if sighting.wanted and not sighting.piled_up:
            return  # the program differentiates by its inputs, as for the points of an equation, and this may be one
        if sighting.cleared and not sighting.plain:
            return  # whoever clears its gradient looks at it
        what, several = told(sighting.names), len(sighting.names) > 1
        report(
            "backward fills a tensor that no optimizer holds",
            site=sighting.built,
            label=f"{what} {'are' if several else 'is'} not among them, and nobody moves {'them' if several else 'it'}",
            why=f"{'they require' if several else 'it requires'} grad, and each backward adds up gradients for nothing",
            help=f"hand over {what} too if it should learn, else make it without `requires_grad=True`",
            note="an input whose gradient is looked at may require grad; clear it after each use",
            related=[("its gradients are made here", sighting.backward)],
            confidence=Confidence.HIGH if sighting.plain or sighting.piled_up else Confidence.MEDIUM,
            subject=what,
        )
