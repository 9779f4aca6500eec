"""GL402: the loss was cut off from the model, and torch refuses to run backward on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Severity
from gradcheck_lint.laws.reach import Cut
from gradcheck_lint.rule import Rule
from gradcheck_lint.runtime.sightings.reach import BackwardRefused

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting


class LossDetached(Rule):
    code = "GL402"
    slug = "loss-detached"
    severity = Severity.ERROR
    witnesses = frozenset({"run"})
    watches = (BackwardRefused,)

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        assert isinstance(sighting, BackwardRefused)
        because = sighting.because
        if because not in (Cut.DETACHED, Cut.NOTHING) or not sighting.trainable:
            return  # GL404 is about gradients that are switched off; what is frozen has no graph to lose
        loss, detached = sighting.root, because is Cut.DETACHED
        whole = f"`{sighting.names[0]}` still has its graph, and " if detached else "no tensor here has a graph, and "
        label = f"{sighting.at_step}: {whole}{f'`{loss}`' if loss else 'the loss'} has none"
        report(
            "the loss is cut off from the model",
            label=label,
            why="backward cannot reach a parameter from it, so torch refuses it",
            help=f"carry the gradient all the way from {f'`{sighting.names[0]}`' if detached else 'the model'} to the "
            "loss: no `.item()`, `.detach()`, `.data`, numpy, `argmax`, comparison or "
            "`torch.no_grad()`",
            related=[("made here", sighting.made)],
        )
