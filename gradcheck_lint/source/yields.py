"""Code that runs in turns with other code: generators, context managers, iterators.

The body of a generator runs while somebody loops over it, and that of a `@contextmanager` around the body of a `with`.
So both are run here at their `yield`: what the loop or the `with` does stands where the function yields.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradcheck_lint.source import events as ev
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source import tree
from gradcheck_lint.source.holdings import held
from gradcheck_lint.source.touch import unknown
from gradcheck_lint.source.values import (
    ClassValue,
    Constant,
    FunctionValue,
    Items,
    Thing,
    Value,
    cut_off,
    depends,
    new_serial,
    only,
)

if TYPE_CHECKING:
    from gradcheck_lint.source.interpret import Arguments, Frame, Interpreter

MOST = 12  # times that what stands at a yield is run for one generator

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


def is_generator(i: Interpreter, function: tree.Function) -> bool:
    """Whether a function yields."""
    known = i.generators.get(id(function))
    if known is None:
        known = i.generators[id(function)] = any(
            isinstance(node, tree.Other) and node.kind in ("Yield", "YieldFrom")
            for node in tree.walk_block(function.body)
        )
    return known


def running(value: Value | None) -> Running | None:
    """The generator that a value is, if the code shows which one."""
    thing = only(value)
    found = thing.detail.get("generator") if thing is not None else None
    return found if isinstance(found, Running) else None


def run(i: Interpreter, generator: Running, node: tree.Node, visit: Visit, around: bool = False) -> bool:
    """Run a generator, and `visit` with what it yields; False if it cannot be followed, and may have done anything."""
    shape = generator.shape
    yielding = Yielding(visit if shape is None else lambda value: visit(shape(value)), list(i.frames), around)
    i.follow(generator.target, generator.args, node, yielding=yielding)
    if not yielding.done:  # not followed, or nothing is yielded
        unknown(i, node, held(i, generator.target, *generator.args.all()).subject, generator.target.function.name)
        return False
    return True


def at_yield(i: Interpreter, node: tree.Other, values: list[Value]) -> None:
    """The function that is being run yields: what waits for it runs now."""
    frame = i.frame
    yielding = frame.yielding
    if yielding is None:
        _lent(i, node, values)
        return
    value = values[0] if values else Constant(None)
    if node.kind == "YieldFrom":
        inner = running(value)
        if inner is not None:
            run(i, inner, node, lambda v: _visit(i, frame, yielding, v))
            return
        saved, i.sequence = i.sequence, tl.Sequence()
        body, start = i.sequence, new_serial()
        _visit(i, frame, yielding, i.element(value, node))
        i.sequence = saved
        i.sequence.steps.append(tl.Loop(body, node, i.place(node), start=start))
        return
    _visit(i, frame, yielding, value)


def _lent(i: Interpreter, node: tree.Other, values: list[Value]) -> None:
    """An entry point yields to code that was not seen: that may do anything to what came from there or goes there.

    Where the function itself runs no backward, it leaves that to the other code, which does do something then.
    """
    function = i.frame.function
    if i.trying or len(i.frames) != 1 or function is None:
        return
    found = held(i, *values)
    if function.parameters or found:
        subject = None if function.parameters else found.subject
        own = any(isinstance(n, tree.Attribute) and n.attr == "backward" for n in tree.walk_block(function.body))
        i.emit(node, ev.Unknown(subject, name="yield", sure=not own))


def _visit(i: Interpreter, frame: Frame, yielding: Yielding, value: Value) -> None:
    yielding.done += 1
    if yielding.done > MOST:
        i.emit(frame.function or frame.home.body[0], ev.Unknown(None, name="yield"))
        return
    frames, i.frames = i.frames, yielding.outer
    outer = i.frame
    context, statement = outer.context, outer.statement
    outer.context = context | (frame.context & {"no_grad", "inference_mode", "try"})
    try:
        yielding.visit(value)
    finally:
        outer.context, outer.statement = context, statement
        i.frames = frames


def loop_over(i: Interpreter, generator: Running, node: tree.For) -> bool:
    """A `for` loop over a generator: its body stands where the generator yields."""
    i.widen(node.body)

    def visit(value: Value) -> None:
        saved, i.sequence = i.sequence, tl.Sequence()
        body, start = i.sequence, new_serial()
        i.assign(node.target, value, None, quiet=True)
        i.block(node.body)
        i.sequence = saved
        i.sequence.steps.append(tl.Turn(body, node, i.place(node), once=True, start=start))

    return run(i, generator, node, visit)


def managed(i: Interpreter, value: Value, node: tree.With, body: Callable[[Value], bool]) -> bool:
    """Run the body of a `with` in what a context manager does around it; True if its end is never reached."""
    thing = only(value)
    generator = thing.detail.get("manager") if thing is not None else None
    if isinstance(generator, Running) and any(
        isinstance(n, tree.Return) for n in tree.walk_block(generator.target.function.body)
    ):
        # a jump in the body could not be told from one that the context manager makes
        found = held(i, generator.target, *generator.args.all())
        unknown(i, node, found.subject, "__enter__")
        ended_early = body(Thing("opaque", "", i.place(node), certain=False))
        unknown(i, node, found.subject, "__exit__")
        return ended_early
    if isinstance(generator, Running):
        ended = [False]
        done = [False]

        def visit(bound: Value) -> None:
            done[0] = True
            ended[0] = body(bound)

        if not run(i, generator, node, visit, around=True) and not done[0]:
            return body(Thing("opaque", "", i.place(node), certain=False))
        return ended[0]
    if thing is not None and thing.role == "instance" and isinstance(thing.cls, ClassValue):
        enter, leave = thing.cls.member("__enter__"), thing.cls.member("__exit__")
        if isinstance(enter, FunctionValue) or isinstance(leave, FunctionValue):
            return _object(i, thing, enter, leave, node, body)
    left = body(value)
    found = held(i, *(thing.detail.get("values", ()) if thing is not None and thing.role == "opaque" else ()))
    if found:
        unknown(i, node, found.subject, "__exit__")
    return left


def _object(
    i: Interpreter,
    thing: Thing,
    enter: Value | None,
    leave: Value | None,
    node: tree.With,
    body: Callable[[Value], bool],
) -> bool:
    from gradcheck_lint.source.interpret import Arguments

    entered: Value = thing
    if isinstance(enter, FunctionValue):
        i.spotted.note(enter)
        entered = i.follow(enter.bind(thing), Arguments([], {}), node)
    guarded = tl.Guarded(tl.Sequence(), tl.Sequence())
    i.sequence.steps.append(guarded)
    saved, i.sequence = i.sequence, guarded.body
    ended = body(entered)
    i.sequence = guarded.final
    if isinstance(leave, FunctionValue):
        i.spotted.note(leave)
        nothing = [Constant(None)] * 3
        i.follow(leave.bind(thing), Arguments(list(nothing), {}), node)
    i.sequence = saved
    return ended


def iterator_of(i: Interpreter, value: Value, node: tree.Node) -> Value:
    """What a loop over a value goes over: what `__iter__` gives, where the project has written that."""
    from gradcheck_lint.source.calls import apply
    from gradcheck_lint.source.interpret import Arguments

    thing = only(value)
    if thing is None or thing.role != "instance" or not isinstance(thing.cls, ClassValue):
        return value
    member = thing.cls.member("__iter__")
    if not isinstance(member, FunctionValue):
        return value
    i.spotted.note(member)
    call = tree.Call(node.at, tree.Name(node.at, "iter"), [])
    return apply(i, member.bind(thing), Arguments([], {}), call)


def next_of(i: Interpreter, value: Value) -> FunctionValue | None:
    """The `__next__` of an iterator that the project has written."""
    thing = only(value)
    if thing is None or thing.role != "instance" or not isinstance(thing.cls, ClassValue):
        return None
    member = thing.cls.member("__next__")
    if not isinstance(member, FunctionValue):
        return None
    i.spotted.note(member)
    return member.bind(thing)


def enumerated(i: Interpreter, generator: Running, node: tree.Node) -> Thing:
    """`enumerate(g)`."""
    index = Thing("opaque", "index", certain=False, detail={"counter": None})
    return started(i, Running(generator.target, generator.args, lambda v: Items("tuple", [index, v])), node)


def started(i: Interpreter, generator: Running, node: tree.Node) -> Thing:
    """The value of a call of a generator function."""
    name = generator.target.function.name
    values = (generator.target, *generator.args.all())
    deps = cut_off(depends(*values))
    return Thing(
        "opaque", name, i.place(node), deps=deps, certain=False, detail={"generator": generator, "values": values}
    )
