"""GL507: a dropout layer that is made where it is used, and so is always in training mode."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence, Fix, Safety, Severity
from gradcheck_lint.rule import Report, Rule

if TYPE_CHECKING:
    from gradcheck_lint.facts.classes import ClassFacts
    from gradcheck_lint.facts.dropping import Drop


class DropoutBuiltInForward(Rule):
    code = "GL507"
    slug = "dropout-built-in-forward"
    severity = Severity.ERROR
    fix = Safety.SAFE
    triggers = r"Dropout\w*\([^()]*\)\s*\(|= (?:\w+\.)*\w*Dropout\w*\("

    def on_class(self, facts: ClassFacts, report: Report) -> None:
        from gradcheck_lint.facts.dropping import drops
        from gradcheck_lint.facts.query import remarked
        from gradcheck_lint.facts.repair import text

        for drop in drops(facts, re.compile(self.triggers)):
            if not drop.layer:
                continue
            made = drop.made or drop.place
            report(
                made,
                "a dropout layer is made where it is used",
                label=f"`{text(made)}` is new in each call, and a new layer is in training mode",
                why="it drops in evaluation too: `eval()` reaches the layers of the module, and this is none of them",
                help=f"make it once in `{facts.name}.__init__`, or call the function `dropout` with "
                f"`training={drop.owner}.training`",
                note="where predictions are to be sampled (Monte Carlo dropout), tell the function `training=True`",
                related=[("used here", drop.place)] if drop.made is not None else [],
                fix=self.mend(drop),
                confidence=Confidence.HIGH if drop.sure and not remarked(drop.place) else Confidence.MEDIUM,
            )

    def mend(self, drop: Drop) -> Fix | None:
        """Call the function in place of the layer, where the layer is called on the spot and `nn` is at hand."""
        from gradcheck_lint.facts.repair import replace, text
        from gradcheck_lint.source import tree
        from gradcheck_lint.source.place import Place

        layer = drop.call.func
        if not isinstance(layer, tree.Call) or len(layer.args) > 1 or len(drop.call.args) != 1:
            return None
        if drop.call.args[0].keyword is not None or not isinstance(layer.func, tree.Attribute):
            return None
        chunk = drop.place.chunk
        module = text(Place(chunk, layer.func.value))
        given = text(Place(chunk, drop.call.args[0].value))
        rate = f", {text(Place(chunk, layer.args[0].value))}" if layer.args else ""
        if layer.args and layer.args[0].keyword not in (None, "p"):
            return None
        new = f"{module}.functional.{drop.function}({given}{rate}, training={drop.owner}.training)"
        return Fix("call the function, which can be told the mode", Safety.SAFE, (replace(drop.place, new),))
