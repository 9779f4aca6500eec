"""Calls of functions that yield, before anybody loops over what they give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gradcheck_lint.source import tree
from gradcheck_lint.source.run.arguments import Arguments
from gradcheck_lint.source.run.machine import Frame, Machine
from gradcheck_lint.source.values import FunctionValue, Thing, Value, cut_off, depends, only

Visit = Callable[[Value], None]


@dataclass(frozen=True, slots=True)
class Running:
    """A call of a generator function that has not begun yet; `shape` makes what a loop binds of what is yielded."""

    target: FunctionValue
    args: Arguments
    shape: Callable[[Value], Value] | None = None


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
            isinstance(node, tree.Other) and node.kind in ("Yield", "YieldFrom")
            for node in tree.walk_block(function.body)
        )
    return known


def running(value: Value | None) -> Running | None:
    """The generator that a value is, if the code shows which one."""
    thing = only(value)
    found = thing.detail.get("generator") if thing is not None else None
    return found if isinstance(found, Running) else None


def started(machine: Machine, generator: Running, node: tree.Node) -> Thing:
    """The value of a call of a generator function."""
    name = generator.target.function.name
    values = (generator.target, *generator.args.all())
    deps = cut_off(depends(*values))
    return Thing(
        "opaque", name, machine.place(node), deps=deps, certain=False, detail={"generator": generator, "values": values}
    )
