"""GL801: a gradient, or what the step made of the weights, holds NaN or Inf while the loss is a number."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence, Severity
from gradcheck_lint.rule import Rule
from gradcheck_lint.runtime.layers import told

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.record import Sighting


class NonFiniteGradient(Rule):
    code = "GL801"
    slug = "non-finite-gradient"
    severity = Severity.ERROR
    witnesses = frozenset({"run"})
    watches = frozenset({"gradient-not-finite", "weight-not-finite"})
    yields_to = frozenset({("GL119", "step")})

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        names, loss = sighting.names, sighting.detail["loss"]
        if not names:
            return
        what = "gradients" if sighting.kind == "gradient-not-finite" else "weights"
        everywhere = len(names) == sighting.detail["total"] > 1
        whose = f"all {len(names)} {what}" if everywhere else f"the {what} of {told(names)}"
        since = sighting.detail["since"]
        when = "" if since == sighting.step else f" at step {since}, the last that was seen"
        before = f"the loss was {loss:.4g}{when}" if loss is not None else "no loss of one number was seen"
        label = f"{sighting.at_step}: {whose} were not finite; {before}"
        related = [("backward", sighting.sites.get("made")), ("built here", sighting.sites.get("built"))]
        first = names[0]
        if what == "weights":  # nobody has read the gradients of this step: the step itself can have made them
            report(
                "the weights have become NaN or Inf",
                label=label,
                why="from there NaN reaches every output and every loss",
                help=f"look at the gradient of `{first}` at this step (`--every 1`): if it is finite, the step itself "
                "made the NaN, by too large a learning rate or by the optimizer's own roots and divisions; if not, "
                "`torch.autograd.detect_anomaly()` tells the operation behind it",
                related=related,
                confidence=Confidence.HIGH,
            )
            return
        spoilt = bool(sighting.detail["spoilt"])
        report(
            "a gradient is NaN or Inf",
            label=label,
            why="the step writes NaN into the weights, and from there it reaches every output"
            if spoilt
            else "an optimizer that uses such a gradient loses its weights",
            help=f"look at the operations behind `{first}`, which backward reached first: a square root, a logarithm, "
            "a norm or a division at zero; run once under `torch.autograd.detect_anomaly()` to be told which",
            related=related,
            confidence=Confidence.HIGH if spoilt else Confidence.MEDIUM,
        )
