"""GL310: `requires_grad` is misspelt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.facts import gradflag
from gradcheck_lint.finding import Confidence, Edit, Fix, Safety, Severity, Span
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.source import torch_api, tree
from gradcheck_lint.source.events import Build, Misspelt, SetAttribute, TorchCall
from gradcheck_lint.source.natures import Tensor
from gradcheck_lint.source.place import Place
from gradcheck_lint.source.values import Thing, options

if TYPE_CHECKING:
    from gradcheck_lint.source.events import Event
    from gradcheck_lint.source.timeline import Timeline

_SILENT = "Python accepts any attribute, so nothing is frozen or unfrozen"
_LOUD = "torch knows no such name, and raises an error"


class RequiresGradMisspelt(Rule):
    code = "GL310"
    slug = "requires-grad-misspelt"
    severity = Severity.ERROR
    fix = Safety.SAFE
    needs = (SetAttribute, Misspelt, Build, TorchCall)
    triggers = r"\breq\w*[gG]ra"

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        for event in timeline.events(SetAttribute, Misspelt, Build, TorchCall):
            if isinstance(event, (Build, TorchCall)):
                self.keyword(event, report)
            elif torch_api.misspelt(event.attr):
                self.attribute(timeline, event, report)

    def attribute(self, timeline: Timeline, event: SetAttribute | Misspelt, report: Report) -> None:
        name, written = event.attr, isinstance(event, SetAttribute)
        kinds = [_kind(timeline, o, name) for o in options(event.subject)]
        if not kinds or not all(kinds) or (not written and "try" in event.context):
            return
        meant = gradflag.read_elsewhere if written else gradflag.set_elsewhere
        sure = all(k is not None and k.certain for k in kinds) and not meant(timeline, name)
        method = isinstance(event, Misspelt) and (event.called or name.endswith("_"))
        right = "requires_grad_" if method else "requires_grad"
        report(
            event.statement if written else event.place,
            f"`{name}` is not `{right}`",
            label="makes a new attribute that nothing reads" if written else "there is no such attribute",
            why=_SILENT if written else _LOUD,
            help=f"write `{right}`",
            note="silence this if a class of your own has such an attribute",
            fix=_corrected(event, name, right) if sure else None,
            confidence=Confidence.HIGH if sure else Confidence.MEDIUM,
        )

    def keyword(self, event: Build | TorchCall, report: Report) -> None:
        node, subject = event.place.node, event.subject
        if not isinstance(node, tree.Call) or "try" in event.context:
            return
        if not (isinstance(subject, Thing) and isinstance(subject.what, Tensor)) and event.name != _VARIABLE:
            return
        for argument in node.args:
            if argument.keyword is None or not torch_api.misspelt(argument.keyword):
                continue
            name = argument.keyword
            report(
                event.place,
                f"`{name}` is not `requires_grad`",
                label=f"has a keyword `{name}`",
                why=_LOUD,
                help="write `requires_grad`",
                fix=_fix(_keyword(Place(event.place.chunk, argument), name), "requires_grad"),
            )


_VARIABLE = "torch.autograd.Variable"


def _kind(timeline: Timeline, value: object, name: str) -> gradflag.Kind | None:
    """What an object is; None for one that has an attribute of this name for itself."""
    if not isinstance(value, Thing) or gradflag.has_own(timeline, value, name):
        return None
    return gradflag.kind(value)


def _corrected(event: Event, name: str, right: str) -> Fix | None:
    """The same code with the name corrected."""
    node, chunk = event.place.node, event.place.chunk
    if isinstance(node, tree.Attribute):
        end = event.place.span
        span = Span(end.path, end.end_line, end.end_column - len(name), end.end_line, end.end_column)
        return _fix(Edit(span, right), right)
    if isinstance(node, tree.Call) and len(node.args) == 3 and isinstance(node.args[1].value, tree.Constant):
        constant = Place(chunk, node.args[1].value)
        return _fix(Edit(constant.span, constant.code.replace(name, right)), right)
    return None


def _keyword(argument: Place, name: str) -> Edit:
    """Write `requires_grad` for the name in `name=value`."""
    start = argument.span
    span = Span(start.path, start.line, start.column, start.line, start.column + len(name))
    return Edit(span, "requires_grad")


def _fix(edit: Edit, right: str) -> Fix:
    return Fix(f"write `{right}`", Safety.SAFE, (edit,))
