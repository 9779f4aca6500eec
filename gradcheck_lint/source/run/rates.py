"""How long a function lasts that gives the factor of a rate: `lambda step: (1 - step / total) ** 0.9` lasts `total`."""

from __future__ import annotations

from collections.abc import Iterator

from gradcheck_lint.source import amounts, tree
from gradcheck_lint.source.amounts import Amount
from gradcheck_lint.source.natures import Opaque
from gradcheck_lint.source.run import names
from gradcheck_lint.source.run.machine import Machine
from gradcheck_lint.source.values import FunctionValue, Thing, Value


def lasts(machine: Machine, function: Value | None) -> Amount | None:
    """After how many moves a function is over, if it decays along a straight line, a power of one, or a cosine."""
    if not isinstance(function, FunctionValue) or len(function.function.parameters) != 1:
        return None
    counter = function.function.parameters[0].name
    found: set[Amount] = set()
    for part in _decays(function.function.body):
        for node in part.walk():
            if isinstance(node, tree.Operation) and node.op == "/":
                shift = _shift(node.operands[0], counter)
                if shift is None:
                    continue
                many = _told(machine, function, node.operands[-1])
                if not isinstance(shift, tree.Constant):
                    many = amounts.added(many, _told(machine, function, shift), 1)
                if many is None:
                    return None
                found.add(many)
    return found.pop() if len(found) == 1 else None


def _decays(body: tree.Block) -> Iterator[tree.Expression]:
    """What is subtracted from 1, and what cosines are taken of."""
    for node in tree.walk_block(body):
        if isinstance(node, tree.Operation) and node.op == "-" and isinstance(node.operands[0], tree.Constant):
            if node.operands[0].value == 1:
                yield node.operands[1]
        elif isinstance(node, tree.Call) and tree.last_name(node.func) == "cos":
            yield from (argument.value for argument in node.args)


def _shift(node: tree.Expression, counter: str) -> tree.Expression | None:
    """From where a numerator counts: a constant for `step`, `warm` for `step - warm`; None if it does not count."""
    if isinstance(node, tree.Call) and tree.dotted(node.func) in ("float", "int", "min", "max") and node.args:
        node = node.args[0].value
    if isinstance(node, tree.Operation) and node.op == "*":
        node = next((part for part in node.operands if _shift(part, counter) is not None), node.operands[0])
    if isinstance(node, tree.Name) and node.id == counter:
        return tree.Constant(node.at, 0)
    if isinstance(node, tree.Operation) and node.op in ("-", "+") and tree.dotted(node.operands[0]) == counter:
        return node.operands[1] if node.op == "-" or isinstance(node.operands[1], tree.Constant) else None
    return None


def _told(machine: Machine, function: FunctionValue, node: tree.Expression) -> Amount | None:
    """How many an expression in the body of a function comes to, by the names around it."""
    if isinstance(node, tree.Constant):
        return amounts.whole(node.value) if type(node.value) is int else None
    if isinstance(node, tree.Operation) and len(node.operands) == 2:
        one, other = (_told(machine, function, part) for part in node.operands)
        if node.op == "*":
            return amounts.times(one, other)
        if node.op in ("/", "//"):
            return amounts.divided(one, other)
        return amounts.added(one, other, 1 if node.op == "+" else -1) if node.op in ("+", "-") else None
    if isinstance(node, tree.Call) and len(node.args) == 1:
        inner = node.args[0].value
        called = tree.dotted(node.func)
        if called in ("int", "float"):
            return _told(machine, function, inner)
        return amounts.length(_value(machine, function, inner)) if called == "len" else None
    return amounts.amount(_value(machine, function, node))


def _value(machine: Machine, function: FunctionValue, node: tree.Expression) -> Value | None:
    """What a name or an attribute of one stands for where the function was defined."""
    if isinstance(node, tree.Attribute):
        base = _value(machine, function, node.value)
        if isinstance(base, Thing) and (isinstance(base.what, Opaque) or (base.serial, node.attr) in machine.store):
            return names.thing_attribute(machine, base, node.attr, node)
        return None
    scope = function.scope
    while isinstance(node, tree.Name) and scope is not None:
        value = machine.store.get((scope, node.id))
        if value is not None:
            return value
        scope = machine.parents.get(scope)
    return None
