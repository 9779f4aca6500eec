"""Notes on the results of operations how they were made, which is all that walking back from a loss needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gradcheck_lint.laws.reach import PLAIN, Effect, of_function
from gradcheck_lint.source import operations, tree
from gradcheck_lint.source.natures import Opaque, Tensor
from gradcheck_lint.source.operations import NEW, How, Operation
from gradcheck_lint.source.run.machine import Machine
from gradcheck_lint.source.values import Thing, Value, things


def note(
    machine: Machine,
    value: Value,
    how: How,
    name: str,
    args: Sequence[Value],
    node: tree.Node,
    *,
    base: Value | None = None,
    keywords: Mapping[str, Value] | None = None,
    inner: Value | None = None,
) -> Value:
    """Note how a value was made, if that is new: an operation may give what was there before, or no object at all.

    Modules and optimizers know how they were made by their class and its arguments.
    """
    if not isinstance(value, Thing) or value.made is not None or value.parent is not None or not machine.trains:
        return value
    place = value.place
    if place is not None and place.node is node and isinstance(value.what, _COMPUTED):
        if how is How.FUNCTION and of_function(name) is Effect.NEW:
            value.made = NEW
        else:
            value.made = Operation(
                how, name, args, place, machine.frames[-1].context, base=base, keywords=keywords or None, inner=inner
            )
    return value


def operated(machine: Machine, value: Thing, how: How, name: str, args: Sequence[Value], node: tree.Node) -> Thing:
    """The same for what has just been made, and has no place of its own."""
    if how is How.OPERATOR and name in PLAIN:
        value.made = NEW
    elif machine.trains:
        value.made = Operation(how, name, args, machine.place(node), machine.frame.context)
    return value


_COMPUTED = (Opaque, Tensor)


def written(machine: Machine, value: Value, name: str, args: Sequence[Value], node: tree.Node) -> None:
    """Something is put into a tensor in place."""
    for thing in things(value) if machine.trains else ():
        operations.write(thing, name, args, machine.place(node), machine.frame.context)
