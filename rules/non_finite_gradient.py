"""GL801: a gradient holds NaN or Inf while the loss is a number."""

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
        spoilt = what == "weights" or bool(sighting.detail["spoilt"])
        first = names[0]
        report(
            "a gradient is NaN or Inf",
            label=f"{sighting.at_step}: {whose} were not finite; {before}",
            why="the step writes NaN into the weights, and from there it reaches every output"
            if spoilt
            else "an optimizer that uses such a gradient loses its weights",
            help=f"look at the operations behind `{first}`, which backward reached first: a square root, a logarithm, "
            "a norm or a division at zero; run once under `torch.autograd.detect_anomaly()` to be told which",
            related=[("backward", sighting.sites.get("made")), ("built here", sighting.sites.get("built"))],
            confidence=Confidence.HIGH if spoilt else Confidence.MEDIUM,
        )
