"""Calls of functions that yield, before anybody loops over what they give."""

from __future__ import annotations

from collections.abc import Callable

from gradcheck_lint.source import tree
from gradcheck_lint.source.deps import cut_off, depends
from gradcheck_lint.source.natures import Opaque, Running
from gradcheck_lint.source.run.machine import Frame, Machine
from gradcheck_lint.source.values import Thing, Value, only

Visit = Callable[[Value], None]


class Yielding:
    """What to do at each yield of a function that is being run."""

    __slots__ = ("around", "done", "outer", "visit")

    def __init__(self, visit: Visit, outer: list[Frame], around: bool) -> None:
        self.visit, self.outer, self.done = visit, outer, 0
        self.around = around  # the body of a `with`, not of a loop


def is_generator(machine: Machine, function: tree.Function) -> bool:
    """Whether a function yields."""
    known = machine.generators.get(id(function))
    if known is None:
        known = machine.generators[id(function)] = any(
            isinstance(node, tree.Yield) for node in tree.walk_block(function.body)
        )
    return known


def running(value: Value | None) -> Running | None:
    """The generator that a value is, if the code shows which one."""
    thing = only(value)
    return thing.via if thing is not None and isinstance(thing.via, Running) else None


def started(machine: Machine, generator: Running, node: tree.Node) -> Thing:
    """The value of a call of a generator function."""
    name = generator.target.function.name
    values = (generator.target, *generator.args.all())
    deps = cut_off(depends(*values))
    return Thing(Opaque(), name, machine.place(node), deps=deps, certain=False, values=values, via=generator)
