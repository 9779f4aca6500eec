"""What is handed to an optimizer: the expression of the argument, the values in it, and its groups."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from gradcheck_lint.source import tree
from gradcheck_lint.source.effort import spend
from gradcheck_lint.source.events import AddGroup, BuildOptimizer
from gradcheck_lint.source.natures import Optimizer, chained
from gradcheck_lint.source.place import Place
from gradcheck_lint.source.values import Items, Table, Value, things

if TYPE_CHECKING:
    from gradcheck_lint.source.events import Event

KINDS = (BuildOptimizer, AddGroup)
"""The events at which an optimizer is handed parameters."""

Handing = BuildOptimizer | AddGroup
"""One of these."""


class Handed(NamedTuple):
    """One collection of parameters; `group` is the parameter group that it stands in, if any."""

    value: Value
    group: Table | None


def takes_parameters(event: Handing) -> bool:
    """Whether it is an optimizer for certain that an event hands parameters to."""
    return bool(things(event.subject, Optimizer))


def refused(event: Event) -> bool:
    """Whether the code is ready for an error here (`try`, `pytest.raises`)."""
    return "try" in event.context


def argument(event: Event) -> Place | None:
    """The expression of what is handed over, where the call writes it down."""
    call = event.place.node
    if not isinstance(call, tree.Call):
        return None
    for index, arg in enumerate(call.args):
        if arg.star:
            return None
        if (index == 0 and arg.keyword is None) or arg.keyword in ("params", "param_group"):
            return Place(event.place.chunk, arg.value)
    return None


def value(event: Handing) -> Value | None:
    """What is handed over."""
    return event.group if isinstance(event, AddGroup) else event.given


def collections(given: Value | None) -> Iterator[Handed]:
    """The collections of parameters in one value that is handed over: itself, or those of its groups."""
    if given is None:
        return
    groups = tables(given)
    if not groups:
        yield Handed(given, None)
    for group in groups:
        if "params" in group.entries:
            yield Handed(group.entries["params"], group)


def tables(given: Value | None) -> list[Table]:
    """The parameter groups in a value that is handed over; none if it is a plain collection of parameters."""
    if isinstance(given, Table):
        return [given]
    if isinstance(given, Items):
        return [item for item in given.items if isinstance(item, Table)]
    return []


def within(place: Place | None, outer: Place | None) -> bool:
    """Whether a node is written inside another one."""
    return place is not None and outer is not None and any(node is place.node for node in outer.node.walk())


def tensors(given: Value | None) -> Iterator[Value]:
    """The values that are handed over one by one: what stands in a list, in all groups; each list once."""
    seen: set[int] = set()
    for collection, _ in collections(given):
        todo: list[Value] = [collection]
        while todo:
            spend(1)
            found = todo.pop()
            inner: list[Value] | None = None
            if isinstance(found, Items):
                inner = found.items
            else:
                inner = chained(found)
            if inner is None:
                yield found
            elif id(found) not in seen:
                seen.add(id(found))
                todo += reversed(inner)
