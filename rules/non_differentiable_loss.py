"""GL403: the loss reaches parameters only through an operation whose derivative is zero."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence, Severity
from gradcheck_lint.rule import Rule
from gradcheck_lint.runtime.sightings.reach import NoDerivative

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting


class NonDifferentiableLoss(Rule):
    code = "GL403"
    slug = "non-differentiable-loss"
    severity = Severity.ERROR
    witnesses = frozenset({"run"})
    watches = (NoDerivative,)

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        assert isinstance(sighting, NoDerivative)
        from gradcheck_lint.runtime.layers import told

        operation, names = sighting.operation, sighting.names
        one = len(names) == 1
        it = "it" if one else "them"
        whose = "every parameter" if sighting.whole else told(names)
        if sighting.draws:
            help = (
                "draw so that backward can follow, as `mean + std * torch.randn_like(std)` or `rsample()` do, or train "
                f"{it} by the log-probability of what was drawn"
            )
        else:
            help = (
                f"let the value be rounded and the gradient pass, as `x + (x.{operation}() - x).detach()` does, or put "
                "something smooth in its place"
            )
        report(
            f"no gradient passes `{operation}`",
            label=f"every way from the loss to {whose} leads through `{operation}`, whose derivative is zero",
            why=f"the gradients are all zero, so the loss does not train {it}",
            help=help,
            related=[("backward", sighting.backward)],
            confidence=Confidence.HIGH,
        )
