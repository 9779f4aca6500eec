"""GL313: `requires_grad` is compared instead of set, or the method `requires_grad_` is overwritten."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gradcheck_lint.facts import gradflag, repair
from gradcheck_lint.finding import Confidence, Fix, Safety, Severity
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.source import tree
from gradcheck_lint.source.events import Evaluate, SetAttribute
from gradcheck_lint.source.natures import Instance, Module, Tensor
from gradcheck_lint.source.place import Place
from gradcheck_lint.source.values import Constant, Thing, options, things

if TYPE_CHECKING:
    from gradcheck_lint.source.events import Event
    from gradcheck_lint.source.timeline import Timeline

_CELLS = re.compile(r"^# (?:In\[|%%|COMMAND|\+)", re.MULTILINE)


class RequiresGradNotAssigned(Rule):
    code = "GL313"
    slug = "requires-grad-not-assigned"
    severity = Severity.ERROR
    fix = Safety.SAFE
    needs = (Evaluate, SetAttribute)

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        for event in timeline.events(Evaluate, SetAttribute):
            if "try" in event.context:
                continue
            if isinstance(event, Evaluate):
                self.comparison(timeline, event, report)
            elif event.attr == "requires_grad_":
                self.overwriting(timeline, event, report)

    def comparison(self, timeline: Timeline, event: Evaluate, report: Report) -> None:
        node = event.place.node
        if not isinstance(node, tree.Operation) or node.op not in ("==", "is") or len(node.operands) != 2:
            return
        left, right = node.operands
        if not isinstance(left, tree.Attribute) or left.attr != "requires_grad":
            return
        name = repair.text(Place(event.place.chunk, left))
        value = repair.text(Place(event.place.chunk, right))
        shown = event.function is None and _CELLS.search(timeline.home.text) is not None
        kinds = [gradflag.kind(o) if isinstance(o, Thing) else None for o in options(event.of)]
        own = any(isinstance(o, Thing) and isinstance(o.what, Instance) for o in options(event.of))  # and its `==`
        report(
            event.place,
            "`requires_grad` is compared, not set",
            label="compares, and throws the answer away",
            why=_consequence(isinstance(right, tree.Constant) and right.value is True),
            help=f"write `{name} = {value}`",
            fix=_assign(event, kinds, name, value),
            confidence=Confidence.MEDIUM if shown or own else Confidence.HIGH,
        )

    def overwriting(self, timeline: Timeline, event: SetAttribute, report: Report) -> None:
        owners = things(event.subject)
        kinds = [gradflag.kind(o) for o in owners]
        value = event.value
        if not all(kinds) or gradflag.callable_value(value):
            return
        if any(gradflag.has_own(timeline, o, "requires_grad_") for o in owners):
            return
        sure = gradflag.plain_flag(event) and all(k is not None and k.certain for k in kinds)
        found = gradflag.called(event)
        report(
            event.statement,
            "the method `requires_grad_` is overwritten",
            label="puts a value in the place of the method",
            why=_consequence(isinstance(value, Constant) and value.value is True),
            help=f"call it: `{found[1]}`" if found is not None else "call `requires_grad_(...)` with the value",
            fix=Fix("call `requires_grad_`", Safety.SAFE, (repair.replace(*found),)) if found and sure else None,
            confidence=Confidence.HIGH if sure else Confidence.MEDIUM,
        )


def _consequence(learn: bool) -> str:
    return "what was to learn gets no gradient" if learn else "what was to be frozen goes on learning"


def _assign(event: Event, kinds: list[gradflag.Kind | None], name: str, value: str) -> Fix | None:
    """An assignment for a tensor, a call for a module, nothing for what may be anything else."""
    statement = event.statement.node
    found = {k.what if k is not None and k.certain else None for k in kinds}
    if len(found) != 1 or not isinstance(statement, tree.Evaluate) or statement.value is not event.place.node:
        return None
    if "\n" in event.statement.code:
        return None
    [kind] = found
    if kind is Tensor:
        return Fix(f"set `{name}`", Safety.SAFE, (repair.replace(event.statement, f"{name} = {value}"),))
    if kind is Module:
        return Fix("call `requires_grad_`", Safety.SAFE, (repair.replace(event.statement, f"{name}_({value})"),))
    return None
