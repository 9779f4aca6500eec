"""Copies of a network that are trained in its place, while the optimizer holds the network itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradcheck_lint.facts.unreached import backwards, held_part, touches
from gradcheck_lint.source import events as ev
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source.holding import held_by
from gradcheck_lint.source.natures import Optimizer
from gradcheck_lint.source.values import Thing, things


class TrainedCopy(NamedTuple):
    """A `copy` to which all backwards come, and no step: the optimizer that was `built` has the original."""

    copy: Thing
    copied: ev.Build
    built: ev.BuildOptimizer
    step: ev.Step


def trained_copies(timeline: tl.Timeline) -> Iterator[TrainedCopy]:
    """The optimizers of a network that nothing trains, as it is its copy that is trained."""
    if timeline.cut or timeline.hooked or timeline.owner is not None or timeline.has(ev.GradWrite):
        return
    copies = {id(e.subject): e for e in timeline.events(ev.Build) if e.subject.copy_of is not None}
    if not copies or not timeline.has(ev.Step):
        return
    led = [found for _, found in backwards(timeline)]
    if not led or any(found.open for found in led):
        return
    moved = [held_by(o) for e in timeline.events(ev.Step) for o in things(e.subject, Optimizer)]
    for built in timeline.events(ev.BuildOptimizer):
        held = held_by(built.subject)
        step = next((e for e in timeline.events(ev.Step) if e.concerns(built.subject)), None)
        if step is None or held.unknown or not held.modules or held.tensors:
            continue
        met = [(one, found) for found in led for one in (*found.alive.values(), *found.through.values())]
        if any(held_part(one, held, found) for one, found in met):
            continue
        for one, _ in met:
            copied = copies.get(id(one))
            of = one.copy_of
            if copied is None or of is None or not any(of.core is m.core for m in held.modules):
                continue
            if not any(h.unknown or any(touches(one, m) for m in h.modules) for h in moved) and not _lent(
                timeline, one
            ):
                yield TrainedCopy(one, copied, built, step)
                break


def _lent(timeline: tl.Timeline, copy: Thing) -> bool:
    """Whether what a copy has learned may be taken back into the network."""
    for event in timeline.events(ev.LoadState, ev.Consume, ev.Unknown):
        if event.subject is None or any(touches(one, copy) for one in things(event.subject)):
            return True
        if isinstance(event, ev.LoadState) and any(copy in one.deps for one in things(event.state)):
            return True
    return False
