"""How long a function lasts that gives the factor of a rate: `lambda step: (1 - step / total) ** 0.9` lasts `total`.

And how long it warms up: `lambda step: min(1.0, step / warm)` does for `warm` moves.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradcheck_lint.source import amounts, tree
from gradcheck_lint.source.amounts import Amount
from gradcheck_lint.source.natures import Opaque
from gradcheck_lint.source.run import names
from gradcheck_lint.source.run.machine import Machine
from gradcheck_lint.source.values import FunctionValue, Thing, Value


def lasts(machine: Machine, function: Value | None) -> Amount | None:
    """After how many moves a function is over, if it decays along a straight line, a power of one, or a cosine."""
    counter = _counter(function)
    if not isinstance(function, FunctionValue) or not counter:
        return None
    found: set[Amount] = set()
    for part in _decays(function.function.body):
        for node in part.walk():
            if isinstance(node, tree.Operation) and node.op == "/":
                shift = _shift(node.operands[0], counter)
                if shift is None:
                    continue
                many = _span(machine, function, node.operands[-1], shift)
                if many is None:
                    return None
                found.add(many)
    return found.pop() if len(found) == 1 else None


def warms(machine: Machine, function: Value | None) -> Warmth | None:
    """For how many moves a function goes up along a straight line, until it is 1."""
    counter = _counter(function)
    if not isinstance(function, FunctionValue) or not counter:
        return None
    nodes = list(tree.walk_block(function.function.body))
    until = {
        _spelt(node.operands[1])
        for node in nodes
        if isinstance(node, tree.Operation) and node.op in ("<", "<=") and _shift(node.operands[0], counter) is not None
    }
    least = [
        part
        for node in nodes
        if isinstance(node, tree.Call) and tree.dotted(node.func) == "min" and any(_is_one(a.value) for a in node.args)
        for argument in node.args
        for part in argument.value.walk()
    ]
    found: dict[str, Warmth] = {}
    for node in nodes:
        if not isinstance(node, tree.Operation) or node.op != "/":
            continue
        shift, divisor = _shift(node.operands[0], counter), _plain(node.operands[-1])
        if not isinstance(shift, tree.Constant) or not _spelt(divisor):
            continue
        if _spelt(divisor) in until or any(part is node for part in least):
            found[_spelt(divisor)] = Warmth(_told(machine, function, divisor), tree.dotted(divisor))
    return next(iter(found.values())) if len(found) == 1 else None


def _span(machine: Machine, function: FunctionValue, divisor: tree.Expression, shift: tree.Expression) -> Amount | None:
    """When a quotient is 1 that counts from `shift`: `total` for `(step - warm) / (total - warm)`."""
    divisor = _plain(divisor)
    if isinstance(shift, tree.Constant):
        return _told(machine, function, divisor)
    if isinstance(divisor, tree.Operation) and divisor.op == "-" and len(divisor.operands) == 2:
        if _spelt(shift) and _spelt(divisor.operands[1]) == _spelt(shift):
            return _told(machine, function, divisor.operands[0])
    return amounts.added(_told(machine, function, divisor), _told(machine, function, shift), 1)


class Warmth(NamedTuple):
    """For how many moves a rate is warmed up, and by which name the code says that; "" for a number."""

    length: Amount | None
    said: str


def _counter(function: Value | None) -> str:
    """What a function calls the number that a schedule gives it."""
    if not isinstance(function, FunctionValue):
        return ""
    parameters = function.function.parameters[1 if function.receiver is not None else 0 :]
    return parameters[0].name if len(parameters) == 1 else ""


def _plain(node: tree.Expression) -> tree.Expression:
    """`warm` of `float(max(1, warm))`."""
    while isinstance(node, tree.Call) and tree.dotted(node.func) in ("int", "float", "max"):
        rest = [a.value for a in node.args if not isinstance(a.value, tree.Constant) or len(node.args) == 1]
        if len(rest) != 1:
            break
        node = rest[0]
    return node


def _spelt(node: tree.Expression) -> str:
    """What an expression says, if that is a name or a number."""
    node = _plain(node)
    return repr(node.value) if isinstance(node, tree.Constant) else tree.dotted(node)


def _is_one(node: tree.Expression) -> bool:
    return isinstance(node, tree.Constant) and node.value == 1


def _decays(body: tree.Block) -> Iterator[tree.Expression]:
    """What is subtracted from 1, and what cosines are taken of; for a name what it is given."""
    given = _given(body)
    for node in tree.walk_block(body):
        found: list[tree.Expression] = []
        if isinstance(node, tree.Operation) and node.op == "-" and isinstance(node.operands[0], tree.Constant):
            found = [node.operands[1]] if node.operands[0].value == 1 else []
        elif isinstance(node, tree.Call) and tree.last_name(node.func) == "cos":
            found = [argument.value for argument in node.args]
        for part in found:
            yield part
            names = {n.id for n in part.walk() if isinstance(n, tree.Name)}
            yield from (given[name][0] for name in sorted(names & given.keys()) if len(given[name]) == 1)


def _given(body: tree.Block) -> dict[str, list[tree.Expression]]:
    """What the names that a function binds are given."""
    found: dict[str, list[tree.Expression]] = {}
    for node in tree.walk_block(body):
        if isinstance(node, tree.Assign) and node.value is not None:
            for target in node.targets:
                found.setdefault(tree.dotted(target), []).append(node.value)
    return found


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
    node = _plain(node)
    inside = _given(function.function.body).get(node.id, []) if isinstance(node, tree.Name) else []
    if len(inside) == 1:
        node = _plain(inside[0])
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
        return amounts.length(_value(machine, function, inner)) if called == "len" else None
    return amounts.amount(_value(machine, function, node))


def _value(machine: Machine, function: FunctionValue, node: tree.Expression) -> Value | None:
    """What a name or an attribute of one stands for where the function was defined."""
    if isinstance(node, tree.Attribute):
        base = _value(machine, function, node.value)
        if isinstance(base, Thing) and (isinstance(base.what, Opaque) or (base.serial, node.attr) in machine.store):
            return names.thing_attribute(machine, base, node.attr, node)
        return None
    if isinstance(node, tree.Name) and function.receiver is not None:
        if node.id == function.function.parameters[0].name:
            return function.receiver
    scope = function.scope
    while isinstance(node, tree.Name) and scope is not None:
        value = machine.store.get((scope, node.id))
        if value is not None:
            return value
        scope = machine.parents.get(scope)
    return None
