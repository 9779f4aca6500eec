"""GL313: `requires_grad` is compared instead of set, or the method `requires_grad_` is overwritten."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gradcheck_lint.facts import gradflag, repair
from gradcheck_lint.finding import Confidence, Fix, Safety, Severity
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.source.events import SetAttribute
from gradcheck_lint.source.natures import Instance, Module, Tensor
from gradcheck_lint.source.values import ClassValue, Constant, Thing, options, things

if TYPE_CHECKING:
    import libcst as cst

    from gradcheck_lint.facts.definitions import DefinitionFacts
    from gradcheck_lint.source.place import Place
    from gradcheck_lint.source.timeline import Timeline
    from gradcheck_lint.source.values import Value

_CELLS = re.compile(r"^# (?:In\[|%%|COMMAND|\+)", re.MULTILINE)


class RequiresGradNotAssigned(Rule):
    code = "GL313"
    slug = "requires-grad-not-assigned"
    severity = Severity.ERROR
    fix = Safety.SAFE
    needs = (SetAttribute,)

    triggers = r"\.requires_grad[\s)]*(?:==|is\b|\()"

    def on_definition(self, definition: DefinitionFacts, report: Report) -> None:
        import libcst as cst
        import libcst.matchers as m

        flag = m.Attribute(attr=m.Name("requires_grad"))
        compared = m.Comparison(left=flag, comparisons=[m.ComparisonTarget(operator=m.Equal() | m.Is())])
        for statement in m.findall(definition.tree, m.Expr(value=compared)):
            comparison = cst.ensure_type(cst.ensure_type(statement, cst.Expr).value, cst.Comparison)
            if any("try" not in event.context for event in definition.events(comparison)):
                self.comparison(definition, comparison, definition.place(statement), report)
        for statement in m.findall(definition.tree, m.Expr(value=m.Call(func=flag))):
            call = cst.ensure_type(cst.ensure_type(statement, cst.Expr).value, cst.Call)
            self.called(definition, call, report)

    def called(self, definition: DefinitionFacts, call: cst.Call, report: Report) -> None:
        """`p.requires_grad()`: a tensor has a flag of that name, a module has nothing, and neither can be called."""
        import libcst as cst

        flag = cst.ensure_type(call.func, cst.Attribute)
        owners = [option for owner in definition.values(flag.value) for option in options(owner)]
        kinds = [gradflag.kind(o) if isinstance(o, Thing) else None for o in owners]
        if not kinds or not all(kind is not None and kind.certain for kind in kinds):
            return
        if any(isinstance(o, Thing) and isinstance(o.core.cls, ClassValue) for o in owners):
            return  # it may have a method of that name
        name = repair.text(definition.place(flag))
        report(
            definition.place(call),
            "`requires_grad` is called, and is no function",
            label="fails with an error",
            why="the method that sets it is called `requires_grad_`",
            help=f"write `{name}_(...)`",
            fix=Fix("call `requires_grad_`", Safety.SAFE, (repair.replace(definition.place(flag), f"{name}_"),)),
        )

    def comparison(
        self, definition: DefinitionFacts, comparison: cst.Comparison, statement: Place, report: Report
    ) -> None:
        import libcst as cst
        import libcst.matchers as m

        flag, right = cst.ensure_type(comparison.left, cst.Attribute), comparison.comparisons[0].comparator
        name, value = repair.text(definition.place(flag)), repair.text(definition.place(right))
        owners = [option for owner in definition.values(flag.value) for option in options(owner)]
        shown = not definition.qualname and _CELLS.search(definition.home.text) is not None
        own = any(isinstance(o, Thing) and isinstance(o.what, Instance) for o in owners)  # and its `==`
        report(
            definition.place(comparison),
            "`requires_grad` is compared, not set",
            label="compares, and throws the answer away",
            why=_consequence(m.matches(right, m.Name("True"))),
            help=f"write `{name} = {value}`",
            fix=_assign(statement, owners, name, value),
            confidence=Confidence.MEDIUM if shown or own else Confidence.HIGH,
        )

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        for event in timeline.events(SetAttribute):
            if event.attr == "requires_grad_" and "try" not in event.context:
                self.overwriting(timeline, event, report)

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


def _assign(statement: Place, owners: list[Value], name: str, value: str) -> Fix | None:
    """An assignment for a tensor, a call for a module, nothing for what may be anything else."""
    kinds = [gradflag.kind(o) if isinstance(o, Thing) else None for o in owners]
    found = {k.what if k is not None and k.certain else None for k in kinds}
    if len(found) != 1 or "\n" in statement.code:
        return None
    [kind] = found
    if kind is Tensor:
        return Fix(f"set `{name}`", Safety.SAFE, (repair.replace(statement, f"{name} = {value}"),))
    if kind is Module:
        return Fix("call `requires_grad_`", Safety.SAFE, (repair.replace(statement, f"{name}_({value})"),))
    return None
