"""GL208: a plain tensor collects gradients, and neither an optimizer nor the program does anything with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence, Severity
from gradcheck_lint.rule import Rule
from gradcheck_lint.runtime.layers import told

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.record import Sighting


class GradientToUntrackedLeaf(Rule):
    code = "GL208"
    slug = "gradient-to-untracked-leaf"
    severity = Severity.WARNING
    witnesses = frozenset({"run"})
    watches = frozenset({"unheld-tensor"})

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        detail = sighting.detail
        if detail["wanted"] and not detail["piled_up"]:
            return  # the program differentiates by its inputs, as for the points of an equation, and this may be one
        if detail["cleared"] and not detail["plain"]:
            return  # whoever clears its gradient looks at it
        what, several = told(sighting.names), len(sighting.names) > 1
        report(
            "backward fills a tensor that no optimizer holds",
            site=sighting.sites.get("built"),
            label=f"{what} {'are' if several else 'is'} not among them, and nobody moves {'them' if several else 'it'}",
            why=f"{'they require' if several else 'it requires'} grad, and each backward adds up gradients for nothing",
            help=f"hand over {what} too if it should learn, else make it without `requires_grad=True`",
            note="an input whose gradient is looked at may require grad; clear it after each use",
            related=[("its gradients are made here", sighting.sites.get("backward"))],
            confidence=Confidence.HIGH if detail["plain"] or detail["piled_up"] else Confidence.MEDIUM,
            subject=what,
        )
