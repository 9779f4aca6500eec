"""GL407: the graphs of earlier batches stay in memory, because something keeps their losses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Severity
from gradcheck_lint.rule import Rule
from gradcheck_lint.runtime.sightings.order import GraphKept

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting


class GraphKeptAlive(Rule):
    code = "GL407"
    slug = "graph-kept-alive"
    severity = Severity.WARNING
    witnesses = frozenset({"run"})
    watches = (GraphKept,)

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        assert isinstance(sighting, GraphKept)
        made = sighting.made
        keeper = f"`{sighting.names[0]}`" if sighting.names else "something"
        report(
            "the graphs of earlier batches are kept in memory",
            site=made,
            label=f"{sighting.at_step}: {keeper} holds the graphs of steps back to step {sighting.first}",
            why="each batch leaves its graph behind, which nothing can use any more: memory grows with each step",
            help=f"add `loss.item()` or `loss.detach()` to {keeper if sighting.names else 'what you keep'}",
            related=[("the step at which it was seen", sighting.site)] if made is not None else [],
        )
