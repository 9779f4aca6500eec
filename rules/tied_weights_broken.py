"""GL209: what was one parameter in two places of a model is two parameters after a conversion or a load."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Severity
from gradcheck_lint.rule import Rule
from gradcheck_lint.runtime.layers import told
from gradcheck_lint.runtime.sightings.holding import TieBroken

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting


class TiedWeightsBroken(Rule):
    code = "GL209"
    slug = "tied-weights-broken"
    severity = Severity.ERROR
    witnesses = frozenset({"run"})
    watches = (TieBroken,)

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        assert isinstance(sighting, TieBroken)
        what, held = told(sighting.names), sighting.held
        name = sighting.optimizer.label if sighting.optimizer else "optimizer"
        report(
            "tied weights have become separate parameters",
            site=sighting.made,
            label=f"{sighting.at_step}: {what} were one parameter before this, and are {len(sighting.names)}",
            why="each is trained by its own gradient and they drift apart"
            if held > 1
            else f"`{name}` moves one of them, and the others stay as they are",
            help="tie them again after this line, before the optimizer is built",
            related=[("the optimizer was built here", sighting.built), ("steps here", sighting.site)],
            subject=what,
        )
