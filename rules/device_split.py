"""GL504: a parameter lies on another device than its gradient or its optimizer state."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Severity
from gradcheck_lint.rule import Rule
from gradcheck_lint.runtime.layers import told
from gradcheck_lint.runtime.sightings.holding import OnMeta, StateElsewhere

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting


class DeviceSplit(Rule):
    code = "GL504"
    slug = "device-split"
    severity = Severity.ERROR
    witnesses = frozenset({"run"})
    watches = (StateElsewhere, OnMeta)

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        name = sighting.optimizer.label if sighting.optimizer else "the optimizer"
        names = told(sighting.names)
        related = [("built here", sighting.built)]
        if isinstance(sighting, OnMeta):
            report(
                "some parameters of the optimizer are on the meta device",
                label=f"{sighting.at_step}: {names}, {len(sighting.names)} of {sighting.total}, have no values",
                why="nothing is computed with them and nothing of them is trained, while the others are",
                help=f"give the model its values first (`to_empty(device=...)` and its weights), then build `{name}`",
                related=related,
            )
            return
        assert isinstance(sighting, StateElsewhere)
        report(
            "a parameter and what belongs to it are on different devices",
            label=f"{sighting.at_step}: {names} on {sighting.here}, but {sighting.what} on {sighting.there}",
            why="the step cannot compute with both: it stops with an error, or, with `meta`, does nothing",
            help=f"move the model first and build `{name}` then; restore its state with `{name}.load_state_dict`, "
            "which moves each tensor to its parameter",
            related=related,
        )
