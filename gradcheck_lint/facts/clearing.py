"""Loops that clear gradients in their first round only, or move parameters by hand and never clear at all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradcheck_lint.facts import query
from gradcheck_lint.facts.window import Window, counter, windows
from gradcheck_lint.laws.answer import NO, YES
from gradcheck_lint.source import events as ev
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source import tree
from gradcheck_lint.source.holding import reaches, trains
from gradcheck_lint.source.natures import Data, Optimizer, Parameters, element_of, nature
from gradcheck_lint.source.values import Thing, only


class FirstOnly(NamedTuple):
    """Each round goes `made` and takes the `step`, and only the first one clears."""

    cleared: ev.Zero
    made: ev.Backward
    step: ev.Step


def first_only(timeline: tl.Timeline) -> Iterator[FirstOnly]:
    """The loops that clear where their counter is 0, and nowhere else."""
    if not timeline.has(ev.Zero) or not timeline.has(ev.Backward) or timeline.hooked or timeline.cut:
        return
    for step, around in timeline.located(ev.Step):
        optimizer, turns = only(step.subject, Optimizer), query.loops(around)
        name = counter(turns[-1].node) if turns else ""
        if optimizer is None or optimizer.summary or not name or not query.always(query.inside(around, turns[-1])):
            continue
        inner = [(e, query.inside(a, turns[-1])) for e, a in timeline.within(turns[-1])]
        if any(isinstance(e, (ev.Unknown, ev.GradWrite, ev.GradChange)) for e, _ in inner):
            continue
        zeros = [(e, a) for e, a in inner if isinstance(e, ev.Zero) and reaches(e.subject, optimizer) is not NO]
        made = [(e, a) for e, a in inner if isinstance(e, ev.Backward) and trains(e.subject, optimizer) is not NO]
        steps = [e for e, _ in inner if isinstance(e, ev.Step) and e.concerns(optimizer)]
        if len(steps) != 1 or len(made) != 1 or not query.always(made[0][1]) or query.loops(made[0][1]):
            continue
        if zeros and all(_in_first_round(a, name) for _, a in zeros) and made[0][0].serial < step.serial:
            yield FirstOnly(zeros[0][0], made[0][0], step)


def _in_first_round(inside: tuple[tl.Part, ...], name: str) -> bool:
    """Whether the outermost of the parts is a branch that is taken where a counter is 0."""
    if len(inside) < 2 or not isinstance(inside[0], tl.Branch) or not isinstance(inside[1], tl.Arm):
        return False
    test = inside[0].test
    if inside[1].index != 0 or not isinstance(test, tree.Operation) or not test.operands:
        return False
    counted = isinstance(test.operands[0], tree.Name) and test.operands[0].id == name
    if test.op == "==":
        return counted and isinstance(test.operands[1], tree.Constant) and test.operands[1].value == 0
    return counted and test.op == "not"


def cleared_before_windows(timeline: tl.Timeline) -> Iterator[tuple[Window, ev.Zero]]:
    """The windows of accumulation in loops that never clear, with the clearing around them or before."""
    if not timeline.has(ev.Zero) or timeline.hooked or timeline.cut:
        return
    for window in windows(timeline):
        if not (window.named or window.divided or window.size) or window.amount == window.loop.length:
            continue  # it closes at the end of the loop
        if any(isinstance(e, (ev.Unknown, ev.GradWrite, ev.GradChange)) for e, _ in window.inner) or window.aside:
            continue
        if any(isinstance(e, ev.Zero) and reaches(e.subject, window.optimizer) is not NO for e, _ in window.inner):
            continue
        around = next(a for e, a in timeline.located(ev.Step) if e is window.step)
        outer = query.loops(around)[:-1]
        before = [
            e
            for e, a in timeline.located(ev.Zero)
            if e.serial < window.backward.serial
            and all(loop in outer for loop in query.loops(a))
            and reaches(e.subject, window.optimizer) is YES
        ]
        rounds = window.loop.length.number if window.loop.length is not None else None
        if before and not (rounds is not None and window.size and rounds < 2 * window.size):
            yield window, before[-1]


class ByHand(NamedTuple):
    """A loop goes `made`, `moved` parameters by their gradients, and never clears these."""

    made: ev.Backward
    moved: ev.Augment | ev.Write


def never_cleared_by_hand(timeline: tl.Timeline) -> Iterator[ByHand]:
    """Where `p -= lr * p.grad` is all that is done with gradients in a loop that goes backward."""
    if not timeline.has(ev.Augment, ev.Write) or not timeline.has(ev.Backward) or timeline.hooked or timeline.cut:
        return
    told: set[int] = set()
    for moved, around in timeline.located(ev.Augment, ev.Write):
        leaf, turns = _moved(moved), [s for s in query.loops(around) if isinstance(s.node, (tree.For, tree.While))]
        if leaf is None:
            continue
        for loop in turns:
            inner = timeline.within(loop)
            made = [(e, query.inside(a, loop)) for e, a in inner if isinstance(e, ev.Backward) and not e.inputs]
            if not made or leaf.root.serial >= loop.start or id(loop) in told:
                continue
            told.add(id(loop))
            plain = len(made) == 1 and query.always(made[0][1]) and not query.loops(made[0][1])
            if plain and not any(isinstance(e, _TAKES_CARE) for e, _ in inner) and made[0][0].serial < moved.serial:
                if query.always(query.inside(around, loop)):
                    yield ByHand(made[0][0], moved)
            break


_TAKES_CARE = (ev.Zero, ev.GradWrite, ev.GradChange, ev.Unknown, ev.Step)


def _moved(event: ev.Augment | ev.Write) -> Thing | None:
    """The tensor that `p -= … p.grad …` or `p.sub_(… p.grad …)` moves, or the module whose parameters these are."""
    name, operands = _written(event)
    if not name or not any(
        isinstance(n, tree.Attribute) and n.attr == "grad" and tree.dotted(n.value).removesuffix(".data") == name
        for operand in operands
        for n in operand.walk()
    ):
        return None
    thing = only(event.subject)
    if thing is not None and isinstance(thing.what, Data) and thing.parent is not None:
        thing = thing.parent[0]
    source = nature(element_of(thing), Parameters)
    return thing if source is None else source.of


def _written(event: ev.Augment | ev.Write) -> tuple[str, list[tree.Expression]]:
    """The name of what is moved in place, and by what."""
    node = event.statement.node
    if isinstance(event, ev.Augment):
        moves = event.op in ("-", "+") and isinstance(node, tree.Augment)
        return (
            (tree.dotted(node.target).removesuffix(".data"), [node.value])
            if moves and isinstance(node, tree.Augment)
            else ("", [])
        )
    call = event.place.node
    if not isinstance(call, tree.Call) or not isinstance(call.func, tree.Attribute) or call.func.attr not in _MOVES:
        return "", []
    return tree.dotted(call.func.value).removesuffix(".data"), [argument.value for argument in call.args]


_MOVES = frozenset({"add_", "sub_"})


class SecondPass(NamedTuple):
    """A backward at weights that were `moved` after another one, whose gradients are still there."""

    first: ev.Backward
    moved: ev.Event
    second: ev.Backward


def second_passes(timeline: tl.Timeline) -> Iterator[SecondPass]:
    """Two backwards in a round with nothing that clears or steps between them, but what moves the weights by hand."""
    if not timeline.has(ev.Write, ev.Augment) or not timeline.has(ev.Step) or timeline.hooked or timeline.cut:
        return
    first: tuple[ev.Backward, tl.Loop] | None = None
    moved: ev.Write | ev.Augment | None = None
    for event, around in timeline.located(ev.Turning, ev.Write, ev.Augment):
        turns = [s for s in query.loops(around) if isinstance(s.node, (tree.For, tree.While))]
        if isinstance(event, ev.Backward):
            here = (event, turns[-1]) if turns and query.always(query.inside(around, turns[-1])) else None
            if here is not None and first is not None and moved is not None and here[1] is first[1]:
                owner = _owner(moved)
                if owner is not None and _reached(first[0], owner) and _reached(event, owner):
                    yield SecondPass(first[0], moved, event)
            first, moved = here, None
        elif isinstance(event, (ev.Write, ev.Augment)):
            if first is not None and first[1] in turns and _owner(event) is not None:
                moved = moved or event
        elif not isinstance(event, (ev.Clip, ev.Schedule, ev.Unscale)):
            first = moved = None


def _owner(event: ev.Write | ev.Augment) -> Thing | None:
    """The module or the optimizer whose parameter is moved."""
    thing = only(event.subject)
    if thing is not None and isinstance(thing.what, Data) and thing.parent is not None:
        thing = thing.parent[0]
    source = element_of(thing)
    given = nature(source, Parameters)
    if given is not None:
        return given.of
    return source.root if source is not None and isinstance(source.root.what, Optimizer) else None


def _reached(made: ev.Backward, owner: Thing) -> bool:
    """Whether a backward leads to what is moved."""
    if isinstance(owner.what, Optimizer):
        return trains(made.subject, owner) is YES
    loss = only(made.subject)
    return loss is not None and any(owner.inside(t) or t.inside(owner) for t in loss.deps)
