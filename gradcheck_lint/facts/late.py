"""Losses that are divided when it is too late: by the size of a window of accumulation, after their backward."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradcheck_lint.facts import query, repair
from gradcheck_lint.facts.gates import gate
from gradcheck_lint.facts.micro_batches import sizes
from gradcheck_lint.source import events as ev
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source import tree
from gradcheck_lint.source.natures import LossScaled, nature
from gradcheck_lint.source.place import Place
from gradcheck_lint.source.values import Thing, Value, only


class Late(NamedTuple):
    """A division of the loss that `made` went backward from, by `size`."""

    event: ev.Event
    made: ev.Backward
    size: str


def divided_late(timeline: tl.Timeline) -> Iterator[Late]:
    """Where a name of a loss is given its quotient by the size of a window, and backward has run from the loss."""
    if not timeline.has(ev.Backward) or not timeline.has(ev.Step):
        return
    used: dict[int, tuple[ev.Backward, tuple[tl.Part, ...]]] = {}
    for event, around in timeline.located(ev.Backward, ev.Assign, ev.Augment):
        if isinstance(event, ev.Backward):
            loss = _loss(event.subject)
            if loss is not None:
                used[loss.serial] = (event, around)
            continue
        found = _quotient(event)
        if found is None:
            continue
        loss, divisor = found
        if loss is None or loss.serial not in used:
            continue
        made, before = used[loss.serial]
        turns = query.loops(around)
        if not turns or turns[-1] not in before or _divides(loss, event, divisor):
            continue
        size = repair.text(Place(event.place.chunk, divisor))
        if size in _sizes(timeline, turns[-1]):
            yield Late(event, made, size)


def _loss(subject: Value | None) -> Thing | None:
    scaled = nature(only(subject), LossScaled)
    return only(scaled.of) if scaled is not None else only(subject)


def _quotient(event: ev.Event) -> tuple[Thing | None, tree.Expression] | None:
    """The old value and the divisor of `x /= n` and `x = x / n`."""
    if isinstance(event, ev.Augment):
        node = event.statement.node
        if event.op == "/" and isinstance(node, tree.Augment):
            return only(event.subject), node.value
        return None
    if not isinstance(event, ev.Assign) or not isinstance(event.expression, tree.Operation):
        return None
    operation = event.expression
    name = tree.dotted(event.target)
    if operation.op != "/" or not name or tree.dotted(operation.operands[0]) != name:
        return None
    return only(event.old), operation.operands[1]


def _divides(loss: Thing, event: ev.Event, divisor: tree.Expression) -> bool:
    """Whether the loss was divided by the same before."""
    node = loss.place.node if loss.place is not None else None
    if not isinstance(node, tree.Operation) or node.op != "/" or loss.place is None:
        return False
    text = repair.text(Place(loss.place.chunk, node.operands[-1]))
    return text == repair.text(Place(event.place.chunk, divisor))


def _sizes(timeline: tl.Timeline, loop: tl.Loop) -> set[str]:
    """What the sizes of windows are written as that a round of a loop may close: `i % n == 0`, or `for … in range(n)`.

    What steps is in the loop or in the one around it.
    """
    found: set[str] = set()
    for event, around in timeline.located(ev.Step):
        turns = query.loops(around)
        if loop in turns:
            closing = gate(timeline, event, loop)
            if closing is not None:
                found.add(repair.text(Place(closing[0].branch.place.chunk, closing[0].test.size)))
        elif turns and any(part is loop for part, _ in _inside(timeline, turns[-1])):
            found.update(sizes(loop))
    return found


def _inside(timeline: tl.Timeline, outer: tl.Loop) -> Iterator[tuple[tl.Loop, tl.Loop]]:
    """The loops directly in a loop, with that."""
    for _, around in timeline.within(outer):
        for loop in query.loops(query.inside(around, outer))[:1]:
            yield loop, outer
