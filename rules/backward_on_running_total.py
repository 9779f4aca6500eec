"""GL413: backward runs on a sum in which the losses of earlier steps are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Severity
from gradcheck_lint.rule import Rule

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.record import Sighting


class BackwardOnRunningTotal(Rule):
    code = "GL413"
    slug = "backward-on-running-total"
    severity = Severity.ERROR
    witnesses = frozenset({"run"})
    watches = frozenset({"running-total"})

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        name = f"`{sighting.names[0]}`" if sighting.names else "this sum"
        report(
            "backward runs on a sum that holds losses of earlier steps",
            label=f"{sighting.at_step}: {name} contains the loss that backward was called on at step "
            f"{sighting.detail['earlier']}",
            why="torch goes through the old graphs again: it refuses, or it repeats the gradients of earlier batches, "
            "with weights that the model no longer has",
            help="call backward on the loss of this batch alone, and keep the sum for the log with `.item()`",
            related=[("added up here", sighting.sites.get("made"))],
        )
