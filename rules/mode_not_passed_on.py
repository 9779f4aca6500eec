"""GL511: the mode of a module is set in a way that its layers do not hear of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence, Fix, Safety, Severity
from gradcheck_lint.laws.answer import NO, YES
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.source import tree
from gradcheck_lint.source.events import SetAttribute
from gradcheck_lint.source.natures import Module
from gradcheck_lint.source.values import Constant, only

if TYPE_CHECKING:
    from gradcheck_lint.facts.classes import ClassFacts
    from gradcheck_lint.facts.passed_on import Kept


class ModeNotPassedOn(Rule):
    code = "GL511"
    slug = "mode-not-passed-on"
    severity = Severity.ERROR
    fix = Safety.SAFE
    triggers = r"def train\(|def eval\("
    listens = (SetAttribute,)

    def on_class(self, facts: ClassFacts, report: Report) -> None:
        from gradcheck_lint.facts.caring import cares
        from gradcheck_lint.facts.passed_on import kept_for_itself

        for kept in kept_for_itself(facts):
            caring = cares(facts.instance)
            if caring is NO:
                continue
            if kept.given is not None:
                label = f"puts all layers into training mode, whatever `{kept.mode}` is"
                why = f"`eval()` calls `{kept.method}(False)`: dropout and batch norm go on as in training"
                help = f"hand it on: `{self.handed(kept)}`"
            else:
                label = "sets the mode of this module, and of none of its layers"
                why = "dropout and batch norm stay in the mode that they are in"
                help = f"call `super().{kept.method}({kept.mode})` in place of it"
            report(
                kept.place,
                f"`{facts.name}.{kept.method}` does not hand the mode on to the layers",
                label=label,
                why=why,
                help=help,
                fix=self.mend(kept),
                confidence=Confidence.HIGH if caring is YES and not kept.meant else Confidence.MEDIUM,
            )

    @staticmethod
    def handed(kept: Kept) -> str:
        from gradcheck_lint.facts.repair import text

        code = text(kept.place)
        if code.endswith(("(True)", "mode=True)")):
            return f"{code.removesuffix('True)')}{kept.mode})"
        return f"{code.removesuffix(')')}{'' if code.endswith('()') else ', '}{kept.mode})"

    def mend(self, kept: Kept) -> Fix | None:
        from gradcheck_lint.facts.repair import replace

        if kept.given is None or kept.given.args:
            return None  # that the mode is always True may be what is meant
        return Fix("hand the mode on", Safety.SAFE, (replace(kept.place, self.handed(kept)),))

    def on_event(self, event: SetAttribute, report: Report) -> None:
        from gradcheck_lint.facts.caring import has_caring_layers
        from gradcheck_lint.facts.repair import text
        from gradcheck_lint.source.place import Place

        module, target = only(event.subject, Module), event.place.node
        if event.attr != "training" or module is None or module.summary or not isinstance(target, tree.Attribute):
            return
        if not isinstance(event.value, Constant) or event.value.value is not False:
            return  # who evaluates in training mode may want what only `forward` asks its own flag for
        name = text(Place(event.place.chunk, target.value))
        if name == "self" or has_caring_layers(module.core) is not YES:
            return
        report(
            event.statement,
            "`training` of a whole model is assigned",
            label="sets the flag of this module, and of none of its layers",
            why="each layer asks its own flag: dropout and batch norm go on as in training",
            help=f"call `{name}.eval()`, which sets it in all of them, and `{name}.train()` afterwards",
            confidence=Confidence.MEDIUM,  # it may put back what was set before: detection models return losses by it
        )
