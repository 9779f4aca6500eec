"""Branches, loops, `try`, `with` and `match`: alternatives, and what is run again."""

from __future__ import annotations

from collections.abc import Callable

from gradcheck_lint.source import amounts, limits, tree
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source.deps import passes
from gradcheck_lint.source.effort import Stop
from gradcheck_lint.source.joins import join, tracked
from gradcheck_lint.source.natures import Groups, Opaque, Parameters, Tensor
from gradcheck_lint.source.run import (
    assignment,
    conditions,
    flags,
    generators,
    iteration,
    names,
    picking,
    shape,
    yields,
)
from gradcheck_lint.source.run.arguments import Arguments
from gradcheck_lint.source.run.machine import MISSING, Machine
from gradcheck_lint.source.run.settled import settled, sites
from gradcheck_lint.source.tree import Container
from gradcheck_lint.source.values import Constant, Items, Thing, Value, new_serial, things


def do_if(machine: Machine, node: tree.If) -> bool:
    before, machine.sizes = machine.sizes, {}
    value = machine.eval(node.test)
    machine.sizes = sizes = machine.sizes or before  # the test may be a name for one that was written before it
    known = conditions.truth(machine, node.test, value)
    if known is not None:
        return machine.run(node.body if known else node.orelse)
    place = machine.place(node)

    def first() -> bool:
        conditions.assume(machine, node.test, True)
        return machine.run(node.body)

    def second() -> bool:
        conditions.assume(machine, node.test, False)
        return machine.run(node.orelse)

    sequences, ended = machine.arms([first, second], node, node.test)
    machine.sequence.steps.append(tl.Branch(node.test, sequences, place, sizes))
    return ended


def do_for(machine: Machine, node: tree.For) -> bool:
    iterable = yields.iterator_of(machine, machine.eval(node.iter), node)
    generator = generators.running(iterable)
    if generator is not None:
        if yields.loop_over(machine, generator, node):
            return machine.run(node.orelse) if node.orelse else False
    if (
        isinstance(iterable, Items)
        and iterable.complete
        and 0 < len(iterable.items) <= 6
        and (iterable.kind is not Container.SET or len(iterable.items) == 1)
    ):
        count = len(iterable.items)
        if machine.unrolled * count <= limits.UNROLLED and any(tracked(i) for i in iterable.items):
            machine.unrolled *= count
            for item in iterable.items:
                saved, machine.sequence = machine.sequence, tl.Sequence()
                step = tl.Loop(machine.sequence, node, machine.place(node), once=True, start=new_serial())
                try:
                    assignment.assign(machine, node.target, item, None, quiet=True)
                    machine.run(node.body)
                except Stop:
                    machine.cut_short(saved, step)
                    raise
                machine.sequence = saved
                machine.sequence.steps.append(step)
            machine.unrolled //= count
            return machine.run(node.orelse) if node.orelse else False
    iteration.iterate(machine, iterable, node.iter)
    lazy = None
    if isinstance(iterable, Items):
        lazy, iterable.lazy = iterable.lazy, None
    iteration.consume(machine, iterable, node.iter, "for, left early" if _left_early(machine, node) else "for")

    following = yields.next_of(machine, iterable)
    elements: set[int] = set()

    def bind() -> None:
        found = iteration.element(machine, iterable, node.target)
        if lazy is not None:
            machine.sequence.steps.append(lazy)
        if following is not None:
            found = machine.follow(following, Arguments([], {}), node)
        assignment.assign(machine, node.target, found, None, quiet=True)
        elements.clear()
        elements.update(id(thing) for name in shape.names_in(node.target) for thing in things(machine.eval(name)))

    once = isinstance(node.iter, tree.Call) and shape.range_of_one(node.iter)
    sorting = picking.appended_to(machine, node) if things(iterable, Parameters) else None
    _loop(machine, node, node.body, bind, endless=False, once=once)
    made = machine.sequence.steps[-1]
    if isinstance(made, tl.Loop):
        made.over, made.length = iterable, amounts.length(iterable)
        made.listed = isinstance(iterable, Items) and iterable.place is not None
        made.groups = bool(things(iterable, Groups))
        made.elements = elements
    if sorting:
        picking.sift(machine, node, iterable, sorting)
    return machine.run(node.orelse) if node.orelse else False


def _left_early(machine: Machine, node: tree.For) -> bool:
    known = machine.left_early.get(id(node))
    if known is None:
        known = machine.left_early[id(node)] = shape.leaves(node.body)
    return known


def do_while(machine: Machine, node: tree.While) -> bool:
    value = machine.eval(node.test)
    endless = isinstance(value, Constant) and bool(value.value) and value.value is not ...
    once = isinstance(value, Items) and value.complete and len(value.items) == 1  # `while todo: todo.pop()()`
    outer, machine.ending = machine.ending, {**machine.ending, **dict.fromkeys(flags.ending(node), node)}
    endless = _loop(machine, node, node.body, lambda: None, endless=endless, once=once, test=node.test)
    machine.ending = outer
    if node.orelse:
        machine.run(node.orelse)
    return endless and not shape.breaks(node.body)


def _loop(
    machine: Machine,
    node: tree.For | tree.While,
    body: tree.Block,
    bind: Callable[[], None],
    endless: bool,
    once: bool = False,
    test: tree.Expression | None = None,
) -> bool:
    """Run the body of a loop; whether nothing but a jump ends it."""
    place = machine.place(node)
    names.widen(machine, body)
    saved = machine.sequence
    machine.looping += 1
    outer, machine.unsettled = machine.unsettled, False
    began = new_serial()
    for _ in range(3):
        machine.sequence = tl.Sequence()
        machine.undo.append({})
        start = new_serial()
        try:
            bind()
            machine.run(body)
            if test is not None:
                value = machine.eval(test)
                endless = endless and conditions.truth(machine, test, value) is True
        except Stop:
            step = tl.Loop(machine.sequence, node, place, once=once, endless=endless, start=start)
            machine.cut_short(saved, step)
            raise
        result = machine.sequence
        log = machine.undo.pop()
        written = machine.rollback(log)
        again, machine.unsettled = machine.unsettled, False
        for key, new in written.items():
            old = log[key]
            if old is MISSING or new is MISSING:
                machine.put(key, new)
                continue
            both = new if _carries(new) and _passive(old) else join(old, new)
            if key[1] == "_":
                pass  # nobody reads it
            elif both is new and new is not old:
                again = again or sites(new) != sites(old)
            elif both is not old and (tracked(old) or tracked(new)) and not settled(old, both, began):
                again = True
            machine.put(key, both)
        if again and machine.looping > limits.RERUN:
            outer = True  # a loop around this one is run again, and with it this one
            break
        if not again or once:
            break
    machine.looping -= 1
    machine.unsettled = outer
    machine.sequence = saved
    flags.leave(result, machine.ended.pop(id(node), {}), place)
    machine.sequence.steps.append(tl.Loop(result, node, place, once=once, endless=endless, start=start))
    return endless


def do_try(machine: Machine, node: tree.Try) -> bool:
    place = machine.place(node)

    def body() -> bool:
        frame, saved = machine.frame, machine.frame.context
        if node.handlers:
            frame.context = saved | {"try"}
        ended = machine.run(node.body)
        frame.context = saved
        return ended or machine.run(node.orelse)

    handlers = [lambda h=h: machine.run(h) for h in node.handlers]
    sequences, ended = machine.arms([body, *handlers], node)
    branch = tl.Attempt(None, sequences, place)
    if not node.final:
        machine.sequence.steps.append(branch)
        return ended
    guarded = tl.Guarded(tl.Sequence(), tl.Sequence())
    guarded.body.steps.append(branch)
    machine.sequence.steps.append(guarded)
    saved, machine.sequence = machine.sequence, guarded.final
    left = machine.run(node.final)
    machine.sequence = saved
    return left or ended


def do_with(machine: Machine, node: tree.With) -> bool:
    return _within(machine, node, list(node.items))


def _within(machine: Machine, node: tree.With, items: list[tuple[tree.Expression, tree.Expression | None]]) -> bool:
    """Run a `with` from one of its items on."""
    if not items:
        return machine.run(node.body)
    item, target = items[0]
    frame, saved = machine.frame, machine.frame.context
    value = machine.eval(item)
    frame.context |= _context_of(item, value)

    def body(bound: Value) -> bool:
        if target is not None:
            assignment.assign(machine, target, bound, None, quiet=True)
        return _within(machine, node, items[1:])

    ended = yields.managed(machine, value, node, body)
    frame.context = saved
    return ended


def _context_of(item: tree.Expression, value: Value) -> frozenset[str]:
    name = tree.last_name(item)
    if name in (
        "no_grad",
        "inference_mode",
        "accumulate",
        "no_sync",
        "enable_grad",
        "autocast",
        "set_grad_enabled",
    ):
        return frozenset({name})
    if name in ("raises", "suppress") or name.startswith("assertRaises"):
        return frozenset({"try"})
    return frozenset()


def do_match(machine: Machine, node: tree.Match) -> bool:
    machine.eval(node.subject)
    arms = [lambda a=a: machine.run(a) for a in node.arms]
    sequences, _ = machine.arms([*arms, lambda: False], node)
    machine.sequence.steps.append(tl.Branch(None, sequences, machine.place(node)))
    return False


def _carries(value: Value) -> bool:
    """Something computed, which takes its graph from one round of a loop into the next."""
    return isinstance(value, Thing) and isinstance(value.what, Opaque) and bool(passes(value))


def _passive(value: Value) -> bool:
    """A start value that nothing is lost by forgetting."""
    if isinstance(value, Thing):
        return isinstance(value.what, Opaque) or (isinstance(value.what, Tensor) and not value.what.grad)
    return isinstance(value, (Constant, Items))
