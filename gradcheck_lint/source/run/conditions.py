"""Which way a test goes, and what holds where it went that way."""

from __future__ import annotations

from gradcheck_lint.source import tree
from gradcheck_lint.source.deps import depends
from gradcheck_lint.source.joins import join
from gradcheck_lint.source.natures import Module, Opaque, Optimizer, Scaler, Scheduler
from gradcheck_lint.source.run import assignment, objects, shape
from gradcheck_lint.source.run.machine import Machine
from gradcheck_lint.source.values import Choice, ClassValue, Constant, FunctionValue, Items, ModuleValue, Thing, Value


def assume(machine: Machine, test: tree.Expression, holds: bool) -> None:
    """Narrow a name that a test compares with None (or takes as a truth value) to what it must then be."""
    if isinstance(test, tree.Operation):
        if test.op == "not":
            assume(machine, test.operands[0], not holds)
            return
        if test.op == "and" and holds:
            for part in test.operands:
                assume(machine, part, True)
            return
        if test.op in ("is", "is not", "==", "!=") and shape.is_none(test.operands[1]):
            _narrow(machine, test.operands[0], holds == (test.op in ("is", "==")))
        return
    if holds:
        _narrow(machine, test, False)


def _narrow(machine: Machine, node: tree.Expression, none: bool) -> None:
    if not isinstance(node, (tree.Name, tree.Attribute)):
        return
    value = machine.eval(node)
    if not isinstance(value, Choice):
        return
    kept = [v for v in value.options if (isinstance(v, Constant) and v.value is None) == none]
    if kept and len(kept) < len(value.options):
        assignment.assign(machine, node, kept[0] if len(kept) == 1 else Choice(tuple(kept)), None, quiet=True)


def truth(machine: Machine, test: tree.Expression, value: Value) -> bool | None:
    """Whether a test is known to hold."""
    if isinstance(test, tree.Operation) and test.op == "==" and tree.dotted(test.operands[0]) == "__name__":
        return True
    if machine.trying and not isinstance(test, tree.Constant):
        return None  # what it is now, it need not be when the function is called
    if isinstance(value, Constant) and value.value is not ...:
        return bool(value.value)
    return None


def logic(op: str, values: list[Value]) -> Value:
    first = values[0]
    if op == "not":
        if isinstance(first, Constant) and first.value is not ...:
            return Constant(not first.value)
        return Constant(False) if _truthy(first) else Constant(...)
    if op in ("and", "or"):
        if isinstance(first, Constant) and first.value is not ...:
            return values[1] if bool(first.value) == (op == "and") else first
        second = values[1]
        if isinstance(second, Constant) and second.value is not ... and bool(second.value) != (op == "and"):
            if isinstance(second.value, bool):
                return second if op == "and" else Constant(...)
        if _truthy(first):
            return second if op == "and" else first
        if op == "or":
            return join(first, second)
        return Thing(Opaque(), "", deps=depends(*values), certain=False)
    if len(values) == 2:
        a, b = values
        if op in ("is", "is not", "==", "!="):
            if objects.is_none(b) and _truthy(a):
                return Constant(op in ("is not", "!="))
            if isinstance(a, Constant) and isinstance(b, Constant) and ... not in (a.value, b.value):
                return Constant((a.value == b.value) == (op in ("is", "==")))
        if op in ("in", "not in") and isinstance(a, Constant) and isinstance(b, Items) and b.items and b.complete:
            if a.value is not ... and all(isinstance(i, Constant) and i.value is not ... for i in b.items):
                inside = any(isinstance(i, Constant) and i.value == a.value for i in b.items)
                return Constant(inside == (op == "in"))
    return Thing(Opaque(), "", deps=frozenset(), certain=False)


def _truthy(value: Value) -> bool:
    """Whether the value is an object that is never None or false."""
    if isinstance(value, Thing):
        return isinstance(value.what, (Optimizer, Module, Scaler, Scheduler)) and value.certain
    return isinstance(value, (FunctionValue, ClassValue, ModuleValue))
