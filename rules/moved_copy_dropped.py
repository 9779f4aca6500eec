"""GL503: a tensor is moved, converted or clamped, and the result is thrown away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.facts import repair
from gradcheck_lint.facts.tensors import goes_backward, is_tensor
from gradcheck_lint.finding import Confidence, Fix, Safety, Severity
from gradcheck_lint.laws.answer import MAYBE, NO, YES
from gradcheck_lint.laws.mode import records
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.source import torch_api, tree
from gradcheck_lint.source.events import Dropped
from gradcheck_lint.source.natures import Data, Grad, Tensor, element_of
from gradcheck_lint.source.place import Place
from gradcheck_lint.source.values import things

if TYPE_CHECKING:
    from gradcheck_lint.source.timeline import Timeline


class MovedCopyDropped(Rule):
    code = "GL503"
    slug = "moved-copy-dropped"
    severity = Severity.ERROR
    fix = Safety.UNSAFE
    needs = (Dropped,)

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        for event in timeline.events(Dropped):
            if "try" not in event.context:
                self.dropped(timeline, event, report)

    def dropped(self, timeline: Timeline, event: Dropped, report: Report) -> None:
        certain = is_tensor(event.subject)
        if certain is MAYBE and goes_backward(timeline, event.subject):
            certain = YES
        if certain is NO:
            return
        name = _root(event.of)
        if not name:
            return  # made in the same line: a context is started, or a kernel warmed up
        lasting = _lasts(event)
        if not lasting and (certain is MAYBE and event.how in torch_api.CONVERTS):
            return  # what a network gives may move in place
        if not lasting and name == tree.dotted(event.of) and not _matters(timeline, event, name):
            return
        what = repair.text(Place(event.place.chunk, event.of))
        report(
            event.place,
            f"the tensor that `{event.how}` gives is thrown away",
            label=f"leaves `{what}` as it is",
            why=_consequence(event.how),
            help=_help(event, what),
            fix=_fix(event, what, certain is YES),
            confidence=Confidence.HIGH if certain is YES else Confidence.MEDIUM,
        )


def _root(node: tree.Expression) -> str:
    """The name that an expression starts from, by attributes and items; "" for what is made on the way."""
    while isinstance(node, (tree.Attribute, tree.Subscript)):
        node = node.value
    return node.id if isinstance(node, tree.Name) else ""


def _lasts(event: Dropped) -> bool:
    """Whether it is a gradient or a parameter, which other code reads."""
    return any(isinstance(t.what, (Grad, Data)) or element_of(t) is not None for t in things(event.subject))


def _matters(timeline: Timeline, event: Dropped, name: str) -> bool:
    """Whether the tensor is read later: one that is not was made to try something out."""
    from gradcheck_lint.facts.rebinding import used_later

    return used_later(timeline, event, name)


def _consequence(how: str) -> str:
    if how in torch_api.CONVERTS:
        return "a tensor stays where it is and of its dtype; only a module moves in place"
    if how == "detach":
        return "it keeps its graph"
    return "it keeps its values"


def _help(event: Dropped, what: str) -> str:
    if event.how in torch_api.IN_PLACE and _lasts(event):
        return f"change it in place: `{what}.{event.how}_(...)`"
    return f"keep the result: `{what} = {repair.text(event.place)}`"


def _fix(event: Dropped, what: str, certain: bool) -> Fix | None:
    """In place for a gradient, an assignment for a plain tensor; none for a leaf that is trained."""
    call = event.place.node
    if not certain or not isinstance(call, tree.Call) or event.function_form:
        return None
    found = things(event.subject)
    if event.how in torch_api.IN_PLACE and all(isinstance(t.what, (Grad, Data)) for t in found):
        function = Place(event.place.chunk, call.func)
        return Fix(f"call `{event.how}_`", Safety.UNSAFE, (repair.append(function, "_"),))
    if any(not isinstance(t.what, Tensor) or t.what.grad is not False for t in found) and records(event.context) is YES:
        return None
    if "\n" in event.place.code or not tree.dotted(event.of) or _lasts(event):
        return None
    whole = f"{what} = {event.place.code}"
    return Fix(f"keep it as `{what}`", Safety.UNSAFE, (repair.replace(event.place, whole),))
