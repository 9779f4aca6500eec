"""GL510: a program means to compute in half precision and computes in float32."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence, Severity
from gradcheck_lint.laws.mode import Lost
from gradcheck_lint.rule import Rule
from gradcheck_lint.runtime.layers import told
from gradcheck_lint.runtime.sighting import written
from gradcheck_lint.runtime.sightings.mode import FullPrecision

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting


class AutocastLost(Rule):
    code = "GL510"
    slug = "autocast-lost"
    severity = Severity.WARNING
    witnesses = frozenset({"run"})
    watches = (FullPrecision,)

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        assert isinstance(sighting, FullPrecision)
        backward = written(sighting.loss, "backward()")
        label, help = {
            Lost.OUTSIDE: (
                "ran outside of this block",
                "call the model inside of the block, together with the loss",
            ),
            Lost.DEVICE: (
                f"ran on {sighting.device}, and this block is for {sighting.meant}",
                f'write `torch.autocast("{sighting.device}", ...)`, or move the model to {sighting.meant}',
            ),
            Lost.FORWARD: (
                "were called past the model's `forward`, which alone is wrapped in autocast",
                f"let the model's `forward` make the loss of `{backward}`, or make it in a block of autocast",
            ),
            Lost.UNUSED: (
                "have nothing to do with this block, and the loss is scaled for half precision",
                "call the model inside of the block, in the same thread",
            ),
        }[sighting.how]
        report(
            "mixed precision is lost: the layers run in float32",
            label=f"{sighting.at_step}: {told(sighting.names)} {label}",
            why="nothing behind this loss is in half precision, so it takes the time and memory of float32",
            help=help,
            note="" if sighting.sure else "computing in float32 on purpose is legitimate",
            related=[("the loss", sighting.loss)],
            confidence=Confidence.HIGH if sighting.sure else Confidence.MEDIUM,
        )
