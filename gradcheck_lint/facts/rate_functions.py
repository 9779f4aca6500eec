"""Functions that a `LambdaLR` multiplies the rate by: what is wrong with what they return."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradcheck_lint.facts import query, repair
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source import tree
from gradcheck_lint.source.events import Build, Schedule, Step
from gradcheck_lint.source.natures import Optimizer, moves
from gradcheck_lint.source.place import Place
from gradcheck_lint.source.values import FunctionValue, Thing, Value, contents, only


class Factor(NamedTuple):
    """A factor of what a function of a rate returns, and the schedule that it is for.

    It is the `rate` that the optimizer was given, which is multiplied by it once more; or a floor division, which is 0
    until the schedule has come to its divisor; or a quotient that is 0 for the whole `first` epoch.
    """

    place: Place
    rate: str
    schedule: Thing
    first: bool = False


def odd_factors(timeline: tl.Timeline) -> Iterator[Factor]:
    """The factors that make no sense in the functions of an entry point."""
    for event in timeline.events(Build):
        schedule = event.subject
        if schedule.class_name != "torch.optim.lr_scheduler.LambdaLR" or event.args.open:
            continue
        given = _rate(only(moves(schedule), Optimizer))
        number = given.value if isinstance(given, tree.Constant) and isinstance(given.value, float) else None
        slow = _once_per_epoch(timeline, schedule)
        for function in _functions(event.args.get(1, "lr_lambda")):
            yield from _odd(function, tree.dotted(given), schedule)
            if number is not None:
                yield from _rates(function, number, schedule)
            if slow:
                yield from _zero_at_first(function, schedule)


def _functions(value: Value | None) -> Iterator[FunctionValue]:
    for option in contents(value):
        if isinstance(option, FunctionValue) and option.receiver is None and option.function.parameters:
            yield option


def _rate(optimizer: Thing | None) -> tree.Expression | None:
    """What the rate of an optimizer is written as."""
    place = optimizer.place if optimizer is not None else None
    if place is None or not isinstance(place.node, tree.Call):
        return None
    return next((a.value for a in place.node.args if a.keyword == "lr"), None)


def _once_per_epoch(timeline: tl.Timeline, schedule: Thing) -> bool:
    """Whether a schedule moves outside of the loop in which its optimizer steps."""
    moved = [query.loops(a) for e, a in timeline.located(Schedule) if e.concerns(schedule)]
    steps = [query.loops(a) for e, a in timeline.located(Step)]
    return bool(moved) and all(turns and any(turns == around[:-1] for around in steps) for turns in moved)


def _returned(function: FunctionValue) -> list[tree.Expression]:
    nodes = tree.walk_block(function.function.body)
    return [node.value for node in nodes if isinstance(node, tree.Return) and node.value is not None]


def _rates(function: FunctionValue, rate: float, schedule: Thing) -> Iterator[Factor]:
    """Numbers that are the rate itself: a factor of what is returned, or the greatest of all that is."""
    names = {p.name for p in function.function.parameters}
    whole: list[tree.Constant] = []
    plain = True
    for value in _returned(function):
        for product in _cases(value):
            parts = list(_factors(product))
            numbers = [part for part in parts if isinstance(part, tree.Constant) and part.value == rate]
            if len(parts) > 1 and numbers and rate <= SMALL and not any(_counts(part, names) for part in parts):
                yield Factor(function.place(numbers[0]), f"{rate:g}", schedule)
            if isinstance(product, tree.Constant) and isinstance(product.value, (int, float)):
                whole.append(product)
            else:
                plain = False
    greatest = max((w.value for w in whole if isinstance(w.value, (int, float))), default=1)
    if plain and 0 < greatest <= min(rate, SMALL / 2) and rate < 1:
        yield Factor(function.place(whole[0]), f"{rate:g}", schedule)


SMALL = 0.1
"""No greater number is a rate for certain: half a cosine has a factor of 0.5."""


def _cases(node: tree.Expression) -> Iterator[tree.Expression]:
    """One of the two that `a if test else b` is."""
    if isinstance(node, tree.Conditional):
        yield from _cases(node.body)
        yield from _cases(node.orelse)
    else:
        yield node


def _zero_at_first(function: FunctionValue, schedule: Thing) -> Iterator[Factor]:
    """Quotients of the count of epochs, which begins with 0."""
    names = {p.name for p in function.function.parameters}
    for value in _returned(function):
        for case in _cases(value):
            least = isinstance(case, tree.Call) and tree.dotted(case.func) == "min"
            for part in [a.value for a in case.args] if isinstance(case, tree.Call) and least else [case]:
                if isinstance(part, tree.Operation) and part.op == "/":
                    above = part.operands[0]
                    if isinstance(above, tree.Call) and tree.dotted(above.func) == "float" and above.args:
                        above = above.args[0].value
                    if isinstance(above, tree.Name) and above.id in names:
                        yield Factor(function.place(part), "", schedule, first=True)


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
