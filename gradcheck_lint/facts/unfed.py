"""Optimizers to which no backward comes: all losses lead to new leaf tensors, which nobody holds.

Where they lead to another network, that is one which no optimizer holds, or which was copied or replaced.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradcheck_lint.facts import query
from gradcheck_lint.facts.unreached import backwards, held_part, other_gradients, touches
from gradcheck_lint.source import events as ev
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source.holding import held_by
from gradcheck_lint.source.natures import Argument, Tensor, made_by
from gradcheck_lint.source.values import Thing, Value, contents

_OF_VALUES = frozenset({"tensor", "as_tensor", "asarray", "from_numpy", "Tensor", "FloatTensor"})


class Unfed(NamedTuple):
    """An optimizer that steps on nothing, a backward before it, and the leaf that this comes to instead."""

    built: ev.BuildOptimizer
    step: ev.Step
    backward: ev.Backward
    leaf: Thing


def unfed(timeline: tl.Timeline) -> Iterator[Unfed]:
    """The optimizers for which no backward makes a gradient, though there are backwards."""
    if timeline.cut or timeline.hooked or timeline.owner is not None or not timeline.has(ev.Step):
        return
    led = backwards(timeline) if timeline.has(ev.BuildOptimizer) else []
    if not led or any(found.open for _, found in led) or other_gradients(timeline):
        return
    if any(event.engine or event.inputs is not None for event, _ in led):
        return
    met = [(one, found) for _, found in led for one in (*found.alive.values(), *found.through.values())]
    # of values: who goes backward on ones or on noise warms something up, or draws a schedule
    leaves = [one for one, _ in met if made_by(one) in _OF_VALUES and one.place is not None]
    if not leaves or not all(_known(one) for one, _ in met):
        return
    for built in timeline.events(ev.BuildOptimizer):
        optimizer = built.subject
        held = held_by(optimizer)
        step = next((e for e in timeline.events(ev.Step) if e.concerns(optimizer)), None)
        if step is None or optimizer.summary or held.unknown or not held.modules or held.tensors:
            continue
        if not all(one.certain for one in held.modules) or any(held_part(one, held, found) for one, found in met):
            continue
        if any(_shares(timeline, one, module) for one, _ in met for module in held.modules):
            continue
        if not query.unseen(timeline, optimizer):
            yield Unfed(built, step, led[0][0], leaves[0])


def _shares(timeline: tl.Timeline, one: Thing, module: Thing) -> bool:
    """Whether something may have parts of a module: it was made of them, or was given some of its weights."""
    if one in module.deps or module in one.deps:
        return True
    given: list[list[Value | None]] = [list(one.args.all())] if one.args is not None else []
    given += [[e.value] for e in timeline.events(ev.Put) if isinstance(e.subject, Thing) and touches(e.subject, one)]
    for value in (value for values in given for value in values):
        for part in contents(value):
            if isinstance(part, Thing) and (touches(part, module) or module in part.deps):
                return True
    return False


def _known(one: Thing) -> bool:
    """Whether it is known what something is to which a backward comes, so that it is nothing that leads on."""
    if isinstance(one.what, Tensor):
        return one.what.leaf is True and one.args is not None
    return isinstance(one.root.via, Argument)
