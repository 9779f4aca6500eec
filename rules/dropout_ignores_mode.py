"""GL502: dropout by a function that is not told the mode of the module."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence, Fix, Safety, Severity
from gradcheck_lint.rule import Report, Rule

if TYPE_CHECKING:
    from gradcheck_lint.facts.classes import ClassFacts
    from gradcheck_lint.facts.dropping import Drop


class DropoutIgnoresMode(Rule):
    code = "GL502"
    slug = "dropout-ignores-mode"
    severity = Severity.ERROR
    fix = Safety.SAFE
    triggers = r"(?<!self\.)\b(?:\w*alpha_)?dropout[123]?d?\(|scaled_dot_product_attention\("

    def on_class(self, facts: ClassFacts, report: Report) -> None:
        from gradcheck_lint.facts.dropping import drops
        from gradcheck_lint.facts.query import remarked
        from gradcheck_lint.facts.repair import text

        for drop in drops(facts, re.compile(self.triggers)):
            if drop.layer:
                continue  # GL507 is about these
            attention = drop.function == "scaled_dot_product_attention"
            training = f"{drop.owner}.training"
            if attention:
                rate = self.rate(drop)
                help = f"write `dropout_p={rate} if {training} else 0.0`"
            else:
                help = f"pass `training={training}`"
            report(
                drop.place,
                "dropout does not follow the mode of the module",
                label=f"`{text(drop.place)}` "
                + ("never drops anything" if drop.off else f"drops in evaluation too, whatever `{training}` says"),
                why="the layer is left out of the training without a word"
                if drop.off
                else "predictions are random and worse than the model is, and `eval()` changes nothing about it",
                help=help,
                note=""
                if drop.off
                else "where predictions are to be sampled (Monte Carlo dropout), say so by "
                + ("a rate of its own" if attention else "`training=True`"),
                fix=self.mend(drop, training),
                confidence=Confidence.HIGH if drop.sure and not remarked(drop.place) else Confidence.MEDIUM,
            )

    @staticmethod
    def rate(drop: Drop) -> str:
        from gradcheck_lint.facts.repair import text
        from gradcheck_lint.source.place import Place

        return text(Place(drop.place.chunk, drop.rate)) if drop.rate is not None else ""

    def mend(self, drop: Drop, training: str) -> Fix | None:
        """Let the call know the mode; an argument is added behind the last one."""
        from gradcheck_lint.facts.repair import append
        from gradcheck_lint.source import tree
        from gradcheck_lint.source.place import Place

        if drop.function == "scaled_dot_product_attention":
            if not isinstance(drop.rate, (tree.Constant, tree.Name, tree.Attribute)):
                return None
            edit = append(Place(drop.place.chunk, drop.rate), f" if {training} else 0.0")
        else:
            edit = append(Place(drop.place.chunk, drop.call.args[-1].value), f", training={training}")
        return Fix(f"let it follow `{training}`", Safety.SAFE, (edit,))
