"""Code that runs in turns with other code: generators, context managers, iterators.

The body of a generator runs while somebody loops over it, and that of a `@contextmanager` around the body of a `with`.
So both are run here at their `yield`: what the loop or the `with` does stands where the function yields.
"""

from __future__ import annotations

from collections.abc import Callable

from gradcheck_lint.laws.mode import OFF
from gradcheck_lint.source import events as ev
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source import tree
from gradcheck_lint.source.natures import Instance, Manager, Opaque, Running
from gradcheck_lint.source.run import assignment, generators, iteration, names
from gradcheck_lint.source.run.arguments import Arguments
from gradcheck_lint.source.run.generators import Visit, Yielding
from gradcheck_lint.source.run.holdings import held
from gradcheck_lint.source.run.machine import Frame, Machine
from gradcheck_lint.source.run.touch import unknown
from gradcheck_lint.source.values import ClassValue, Constant, FunctionValue, Items, Thing, Value, new_serial, only

MOST = 12  # times that what stands at a yield is run for one generator


def run(machine: Machine, generator: Running, node: tree.Node, visit: Visit, around: bool = False) -> bool:
    """Run a generator, and `visit` with what it yields; False if it cannot be followed, and may have done anything."""
    shape = generator.shape
    yielding = Yielding(visit if shape is None else lambda value: visit(shape(value)), list(machine.frames), around)
    machine.follow(generator.target, generator.args, node, yielding=yielding)
    if not yielding.done:  # not followed, or nothing is yielded
        unknown(
            machine,
            node,
            held(machine, generator.target, *generator.args.all()).subject,
            generator.target.function.name,
        )
        return False
    return True


def at_yield(machine: Machine, node: tree.Other, values: list[Value]) -> None:
    """The function that is being run yields: what waits for it runs now."""
    frame = machine.frame
    yielding = frame.yielding
    if yielding is None:
        _lent(machine, node, values)
        return
    value = values[0] if values else Constant(None)
    if isinstance(node, tree.YieldFrom):
        inner = generators.running(value)
        if inner is not None:
            run(machine, inner, node, lambda v: _visit(machine, frame, yielding, v))
            return
        saved, machine.sequence = machine.sequence, tl.Sequence()
        body, start = machine.sequence, new_serial()
        _visit(machine, frame, yielding, iteration.element(machine, value, node))
        machine.sequence = saved
        machine.sequence.steps.append(tl.Loop(body, node, machine.place(node), start=start))
        return
    _visit(machine, frame, yielding, value)


def _lent(machine: Machine, node: tree.Other, values: list[Value]) -> None:
    """An entry point yields to code that was not seen: that may do anything to what came from there or goes there.

    Where the function itself runs no backward, it leaves that to the other code, which does do something then.
    """
    function = machine.frame.function
    if machine.trying or len(machine.frames) != 1 or function is None:
        return
    found = held(machine, *values)
    if function.parameters or found:
        subject = None if function.parameters else found.subject
        own = any(isinstance(n, tree.Attribute) and n.attr == "backward" for n in tree.walk_block(function.body))
        machine.emit(node, ev.Unknown(subject, name="yield", sure=not own))


def _visit(machine: Machine, frame: Frame, yielding: Yielding, value: Value) -> None:
    yielding.done += 1
    if yielding.done > MOST:
        machine.emit(frame.function or frame.home.body[0], ev.Unknown(None, name="yield"))
        return
    frames, machine.frames = machine.frames, yielding.outer
    outer = machine.frame
    context, statement = outer.context, outer.statement
    outer.context = context | (frame.context & {*OFF, "try"})
    try:
        yielding.visit(value)
    finally:
        outer.context, outer.statement = context, statement
        machine.frames = frames


def loop_over(machine: Machine, generator: Running, node: tree.For) -> bool:
    """A `for` loop over a generator: its body stands where the generator yields."""
    names.widen(machine, node.body)

    def visit(value: Value) -> None:
        saved, machine.sequence = machine.sequence, tl.Sequence()
        body, start = machine.sequence, new_serial()
        assignment.assign(machine, node.target, value, None, quiet=True)
        machine.run(node.body)
        machine.sequence = saved
        machine.sequence.steps.append(tl.Turn(body, node, machine.place(node), once=True, start=start))

    return run(machine, generator, node, visit)


def managed(machine: Machine, value: Value, node: tree.With, body: Callable[[Value], bool]) -> bool:
    """Run the body of a `with` in what a context manager does around it; True if its end is never reached."""
    thing = only(value)
    generator = thing.via.running if thing is not None and isinstance(thing.via, Manager) else None
    if generator is not None and any(
        isinstance(n, tree.Return) for n in tree.walk_block(generator.target.function.body)
    ):
        # a jump in the body could not be told from one that the context manager makes
        found = held(machine, generator.target, *generator.args.all())
        unknown(machine, node, found.subject, "__enter__")
        ended_early = body(Thing(Opaque(), "", machine.place(node), certain=False))
        unknown(machine, node, found.subject, "__exit__")
        return ended_early
    if generator is not None:
        ended = [False]
        done = [False]

        def visit(bound: Value) -> None:
            done[0] = True
            ended[0] = body(bound)

        if not run(machine, generator, node, visit, around=True) and not done[0]:
            return body(Thing(Opaque(), "", machine.place(node), certain=False))
        return ended[0]
    if thing is not None and isinstance(thing.what, Instance) and isinstance(thing.cls, ClassValue):
        enter, leave = thing.cls.member("__enter__"), thing.cls.member("__exit__")
        if isinstance(enter, FunctionValue) or isinstance(leave, FunctionValue):
            return _object(machine, thing, enter, leave, node, body)
    left = body(value)
    found = held(machine, *(thing.values if thing is not None and isinstance(thing.what, Opaque) else ()))
    if found:
        unknown(machine, node, found.subject, "__exit__")
    return left


def _object(
    machine: Machine,
    thing: Thing,
    enter: Value | None,
    leave: Value | None,
    node: tree.With,
    body: Callable[[Value], bool],
) -> bool:
    entered: Value = thing
    if isinstance(enter, FunctionValue):
        machine.spotted.note(enter)
        entered = machine.follow(enter.bind(thing), Arguments([], {}), node)
    guarded = tl.Guarded(tl.Sequence(), tl.Sequence())
    machine.sequence.steps.append(guarded)
    saved, machine.sequence = machine.sequence, guarded.body
    ended = body(entered)
    machine.sequence = guarded.final
    if isinstance(leave, FunctionValue):
        machine.spotted.note(leave)
        nothing = [Constant(None)] * 3
        machine.follow(leave.bind(thing), Arguments(list(nothing), {}), node)
    machine.sequence = saved
    return ended


def iterator_of(machine: Machine, value: Value, node: tree.Node) -> Value:
    """What a loop over a value goes over: what `__iter__` gives, where the project has written that."""
    member = _written(machine, value, "__iter__")
    if member is None:
        return value
    return machine.call(member, Arguments([], {}), tree.Call(node.at, tree.Name(node.at, "iter"), []))


def next_of(machine: Machine, value: Value) -> FunctionValue | None:
    """The `__next__` of an iterator that the project has written."""
    return _written(machine, value, "__next__")


def _written(machine: Machine, value: Value, name: str) -> FunctionValue | None:
    """The method of an object of the project that is written there."""
    thing = only(value)
    if thing is None or not isinstance(thing.what, Instance) or not isinstance(thing.cls, ClassValue):
        return None
    member = thing.cls.member(name)
    if not isinstance(member, FunctionValue):
        return None
    machine.spotted.note(member)
    return member.bind(thing)


def enumerated(machine: Machine, generator: Running, node: tree.Node) -> Thing:
    """`enumerate(g)`."""
    index = Thing(Opaque(), "index", certain=False)
    pairs = Running(generator.target, generator.args, lambda v: Items(tree.Container.TUPLE, [index, v]))
    return generators.started(machine, pairs, node)
