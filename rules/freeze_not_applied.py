"""GL212: parameters that the user expects to be frozen require grad."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Severity
from gradcheck_lint.rule import Rule
from gradcheck_lint.runtime.layers import told
from gradcheck_lint.runtime.sightings.mode import ShouldBeFrozen

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting


class FreezeNotApplied(Rule):
    code = "GL212"
    slug = "freeze-not-applied"
    severity = Severity.ERROR
    witnesses = frozenset({"run"})
    watches = (ShouldBeFrozen,)

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        assert isinstance(sighting, ShouldBeFrozen)
        word, what = sighting.word, told(sighting.names)
        name = sighting.optimizer.label if sighting.optimizer else "optimizer"
        if not sighting.names:
            report(
                "no parameter has the name that is expected to be frozen",
                site=sighting.built,
                label=f"none of the parameters here has a name that begins with `{word}`",
                why="a freeze that goes by this name freezes nothing, and nothing can be checked",
                help="look at the names in `model.named_parameters()`, and mend `expect_frozen`",
                subject=word,
            )
            return
        report(
            "parameters that should be frozen are trained",
            site=sighting.built,
            label=f"{sighting.at_step}: {what} required grad, although `expect_frozen` names `{word}`",
            why=f"`{name}.step()` moves them" if sighting.held else "each backward fills their gradients",
            help=f"call `requires_grad_(False)` on `{word}` before `{name}` is built",
            related=[("steps here", sighting.site)],
            subject=word,
        )
