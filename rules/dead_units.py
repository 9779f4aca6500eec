"""GL808: most units of a layer never get a gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence, Severity
from gradcheck_lint.rule import Rule
from gradcheck_lint.runtime.layers import told

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.record import Sighting


class DeadUnits(Rule):
    code = "GL808"
    slug = "dead-units"
    severity = Severity.WARNING
    witnesses = frozenset({"run"})
    watches = frozenset({"dead-units"})

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        detail = sighting.detail
        names = sighting.names
        where = f"layer {names[0]}" if len(names) == 1 else told(names, "layers")
        most = detail["whole"] > 1 and 2 * detail["whole"] >= detail["total"]
        report(
            "units of a layer never get a gradient",
            label=f"{sighting.at_step}: {detail['dead']} of the {detail['rows']} units of "
            f"{where} had no gradient at any step that was looked at",
            why="such units give the same for every input and cannot be trained any more",
            help=f"look at the initialisation of `{sighting.names[0]}` and at the size of its input; an activation "
            "with a slope everywhere (leaky ReLU, GELU) does not die",
            related=[("built here", sighting.sites.get("built"))],
            confidence=Confidence.HIGH if most else Confidence.MEDIUM,
        )
