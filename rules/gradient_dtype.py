"""GL505: gradients are so small that float16 loses them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence, Severity
from gradcheck_lint.rule import Rule
from gradcheck_lint.runtime.layers import told
from gradcheck_lint.runtime.sighting import written
from gradcheck_lint.runtime.sightings.numbers import GradientUnderflow

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting


class GradientDtype(Rule):
    code = "GL505"
    slug = "gradient-dtype"
    severity = Severity.ERROR
    witnesses = frozenset({"run"})
    watches = (GradientUnderflow,)

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        assert isinstance(sighting, GradientUnderflow)
        backward = written(sighting.backward, "loss.backward()")
        if sighting.scaled:
            help = "let the scaler find a larger scale, or compute in bfloat16, which needs none"
        elif sighting.dtype == "float16":
            help = "keep the weights in float32 and compute under `torch.autocast`, with a `GradScaler` for float16"
        else:
            help = f"scale the loss with a `torch.amp.GradScaler` before `{backward}`, or compute in bfloat16"
        report(
            "gradients are lost to the range of float16",
            label=f"{sighting.at_step}: all values of the gradient of {told(sighting.names)} are below 6e-5, and "
            f"{100 * sighting.zeros:.0f} % of them are 0",
            why="float16 has few bits left for numbers of that size and rounds those below 3e-8 to 0",
            help=help,
            related=[("built here", sighting.built)],
            confidence=Confidence.HIGH if sighting.early and not sighting.scaled else Confidence.MEDIUM,
        )
