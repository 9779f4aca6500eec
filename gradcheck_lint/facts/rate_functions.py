"""Functions that a `LambdaLR` multiplies the rate by: what is wrong with what they return."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradcheck_lint.facts import repair
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source import tree
from gradcheck_lint.source.events import Build
from gradcheck_lint.source.natures import Optimizer, moves
from gradcheck_lint.source.place import Place
from gradcheck_lint.source.values import FunctionValue, Thing, Value, contents, only


class Factor(NamedTuple):
    """A factor of what a function of a rate returns, and the schedule that it is for.

    It is the `rate` that the optimizer was given, which is multiplied by it once more; or a floor division, which is 0
    until the schedule has come to its divisor.
    """

    place: Place
    rate: str
    schedule: Thing


def odd_factors(timeline: tl.Timeline) -> Iterator[Factor]:
    """The factors that make no sense in the functions of an entry point."""
    for event in timeline.events(Build):
        schedule = event.subject
        if schedule.class_name != "torch.optim.lr_scheduler.LambdaLR" or event.args.open:
            continue
        rate = _rate(only(moves(schedule), Optimizer))
        for function in _functions(event.args.get(1, "lr_lambda")):
            yield from _odd(function, rate, schedule)


def _functions(value: Value | None) -> Iterator[FunctionValue]:
    for option in contents(value):
        if isinstance(option, FunctionValue) and option.receiver is None and option.function.parameters:
            yield option


def _rate(optimizer: Thing | None) -> str:
    """What the rate of an optimizer is written as, if that is a name."""
    place = optimizer.place if optimizer is not None else None
    if place is None or not isinstance(place.node, tree.Call):
        return ""
    found = next((a.value for a in place.node.args if a.keyword == "lr"), None)
    return tree.dotted(found)


def _odd(function: FunctionValue, rate: str, schedule: Thing) -> Iterator[Factor]:
    body = function.function.body
    nodes = list(tree.walk_block(body))
    names = {p.name for p in function.function.parameters}
    divided = any(
        isinstance(node, tree.Operation)
        and node.op in ("/", "//")
        and any(tree.dotted(part) == rate for part in node.operands[-1].walk())
        for node in nodes
    )
    for node in nodes:
        if not isinstance(node, tree.Return) or node.value is None:
            continue
        for factor in _factors(node.value):
            if rate and not divided and tree.dotted(factor) == rate and rate.partition(".")[0] not in names:
                yield Factor(function.place(factor), rate, schedule)
            elif isinstance(factor, tree.Operation) and factor.op == "//" and _counts(factor.operands[0], names):
                yield Factor(function.place(factor), "", schedule)


def _factors(node: tree.Expression) -> Iterator[tree.Expression]:
    """What an expression is a product of; of the least or greatest of several, or one of two, that of each."""
    if isinstance(node, tree.Operation) and node.op == "*":
        for part in node.operands:
            yield from _factors(part)
    elif isinstance(node, tree.Operation) and node.op == "/":
        yield from _factors(node.operands[0])
    elif isinstance(node, tree.Conditional):
        yield from _factors(node.body)
        yield from _factors(node.orelse)
    elif isinstance(node, tree.Call) and tree.dotted(node.func) in ("min", "max", "float"):
        for argument in node.args:
            yield from _factors(argument.value)
    else:
        yield node


def _counts(node: tree.Expression, names: set[str]) -> bool:
    """Whether an expression is the number that the schedule counts, or one more."""
    if isinstance(node, tree.Operation) and node.op in ("+", "-") and isinstance(node.operands[-1], tree.Constant):
        node = node.operands[0]
    return isinstance(node, tree.Name) and node.id in names


def spoken(factor: Factor) -> str:
    """The code of a factor."""
    return repair.text(factor.place)
