"""GL510: a program means to compute in half precision and computes in float32."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence, Severity
from gradcheck_lint.rule import Rule
from gradcheck_lint.runtime.layers import told

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.record import Sighting


class AutocastLost(Rule):
    code = "GL510"
    slug = "autocast-lost"
    severity = Severity.WARNING
    witnesses = frozenset({"run"})
    watches = frozenset({"autocast-lost"})

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        detail = sighting.detail
        backward = sighting.source("backward", "backward()")
        label, help = {
            "outside": (
                "ran outside of this block",
                "call the model inside of the block, together with the loss",
            ),
            "device": (
                f"ran on {detail['device']}, and this block is for {detail['meant']}",
                f'write `torch.autocast("{detail["device"]}", ...)`, or move the model to {detail["meant"]}',
            ),
            "forward": (
                "were called past the model's `forward`, which alone is wrapped in autocast",
                f"let the model's `forward` make the loss of `{backward}`, or make it in a block of autocast",
            ),
            "unused": (
                "have nothing to do with this block, and the loss is scaled for half precision",
                "call the model inside of the block, in the same thread",
            ),
            "scaler": (
                "ran without autocast, and the loss is scaled for half precision",
                "call the model in a `with torch.autocast(...)` block, or build the scaler with `enabled=False`",
            ),
        }[detail["how"]]
        report(
            "mixed precision is lost: the layers run in float32",
            label=f"{sighting.at_step}: {told(sighting.names)} {label}",
            why="nothing behind this loss is in half precision, so it takes the time and memory of float32",
            help=help,
            note="" if detail["sure"] else "computing in float32 on purpose is legitimate",
            related=[("the loss", sighting.sites.get("backward"))],
            confidence=Confidence.HIGH if detail["sure"] else Confidence.MEDIUM,
        )
