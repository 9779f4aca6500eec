"""GL808: most units of a layer never get a gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence, Severity
from gradcheck_lint.rule import Rule
from gradcheck_lint.runtime.layers import told
from gradcheck_lint.runtime.sightings.numbers import UnitsDead

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting


class DeadUnits(Rule):
    code = "GL808"
    slug = "dead-units"
    severity = Severity.WARNING
    witnesses = frozenset({"run"})
    watches = (UnitsDead,)
    yields_to = frozenset({("GL201", "optimizer"), ("GL202", "optimizer")})  # what took a layer's place is not trained

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        assert isinstance(sighting, UnitsDead)
        names = sighting.names
        where = f"layer {names[0]}" if len(names) == 1 else told(names, "layers")
        most = sighting.whole > 1 and 2 * sighting.whole >= sighting.total
        if sighting.blocker:
            report(
                "no gradient gets past a layer",
                label=f"{sighting.at_step}: the weights of {sighting.blocker} are all zero, and the units of "
                f"{where} had no gradient at any step that was looked at",
                why="what lies before such a layer is not trained",
                help=f"look at how `{sighting.blocker}` gets its weights, and whether an optimizer trains them",
                related=[("built here", sighting.built)],
                confidence=Confidence.HIGH if most else Confidence.MEDIUM,
            )
            return
        behind = f"; no gradient gets past it, to {sighting.before - 1} more before it" if sighting.before > 1 else ""
        report(
            "units of a layer never get a gradient",
            label=f"{sighting.at_step}: {sighting.dead} of the {sighting.rows} units of "
            f"{where} had no gradient at any step that was looked at{behind}",
            why="such units give the same for every input and cannot be trained any more",
            help=f"look at the initialisation of `{sighting.names[0]}` and at the size of its input; an activation "
            "with a slope everywhere (leaky ReLU, GELU) does not die",
            related=[("built here", sighting.built)],
            confidence=Confidence.HIGH if most else Confidence.MEDIUM,
        )
