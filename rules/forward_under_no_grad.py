"""GL404: the training pass runs while gradients are switched off."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Severity
from gradcheck_lint.laws.reach import Cut
from gradcheck_lint.rule import Rule
from gradcheck_lint.runtime.sightings.mode import StepWithoutGradMode
from gradcheck_lint.runtime.sightings.reach import BackwardRefused

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting


class ForwardUnderNoGrad(Rule):
    code = "GL404"
    slug = "forward-under-no-grad"
    severity = Severity.ERROR
    witnesses = frozenset({"run"})
    watches = (BackwardRefused, StepWithoutGradMode)

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        if isinstance(sighting, StepWithoutGradMode):
            self.at_step(sighting, report)
            return
        assert isinstance(sighting, BackwardRefused)
        because = sighting.because
        if because in (Cut.DETACHED, Cut.NOTHING):
            return  # GL402 is about losses that were cut off
        mode = "torch.inference_mode()" if sighting.inference else "torch.no_grad()"
        if because is Cut.DECORATED:
            told = f"the `forward` of {sighting.names[0]} is decorated so that it records no graph"
            help = "take the decorator off, and switch gradients off where the model is evaluated"
        elif because is Cut.INFERENCE:
            told = "the loss was made under `torch.inference_mode()`"
            help = "run the forward pass and the loss outside of `torch.inference_mode()`"
        else:
            told = "gradients are switched off here"
            help = (
                f"leave the `{mode}` block before training; after `torch.set_grad_enabled(False)` call "
                "`torch.set_grad_enabled(True)`"
            )
        report(
            "the training pass runs without gradients",
            label=f"{sighting.at_step}: {told}",
            why="torch records no graph, so there is nothing that backward could go through",
            help=help,
            related=[("made here", sighting.made)],
        )

    def at_step(self, sighting: Sighting, report: RunReport) -> None:
        name = sighting.optimizer.label if sighting.optimizer else "optimizer"
        report(
            "the training pass runs without gradients",
            label=f"{sighting.at_step}: gradients are switched off, and no parameter has one",
            why=f"`{sighting.source(f'{name}.step()')}` finds nothing to use, so nothing is learned",
            help="run the forward pass and backward where gradients are on; after `torch.set_grad_enabled(False)` call "
            "`torch.set_grad_enabled(True)`",
        )
