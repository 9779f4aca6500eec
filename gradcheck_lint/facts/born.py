"""Parameters that a function makes for a loss and lets go of, so that the next iteration has others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradcheck_lint.facts import query
from gradcheck_lint.facts.reach import reaching
from gradcheck_lint.source import events as ev
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source.natures import Tensor, made_by, nature
from gradcheck_lint.source.place import Place
from gradcheck_lint.source.values import Thing, contents


class Born(NamedTuple):
    """A parameter that is new for each backward, where it is made, and the optimizer's step that misses it."""

    place: Place
    backward: ev.Backward
    step: ev.Step


def born(timeline: tl.Timeline) -> Iterator[Born]:
    """The parameters that are made between the head of a loop and a backward in it, and that nobody gets hold of."""
    if timeline.cut or timeline.hooked or not timeline.has(ev.Step):
        return
    told: set[int] = set()
    for backward, around in timeline.located(ev.Backward):
        turns = query.loops(around)
        steps = [e for e, a in timeline.located(ev.Step) if turns and turns[-1] in a]
        if not steps or any(turns[-1] in a for _, a in timeline.located(ev.BuildOptimizer)):
            continue
        for thing in reaching(timeline).of(backward.subject).met:
            place = thing.place
            if place is None or id(place.node) in told or not _new(thing, turns[-1]):
                continue
            if place.chunk is backward.place.chunk or not _plain_function(place):
                continue
            if not _had(timeline, thing, backward):
                told.add(id(place.node))
                yield Born(place, backward, steps[0])


def _plain_function(place: Place) -> bool:
    """Whether something stands in a function of a module, which keeps nothing: a method may have an object for that."""
    return place.chunk.text.lstrip("\n").startswith(("def ", "async def ", "@"))


def _new(thing: Thing, turn: tl.Loop) -> bool:
    """Whether something is a parameter that an iteration makes, and gives to nothing that is there in the next."""
    tensor = nature(thing, Tensor)
    return (
        tensor is not None
        and made_by(thing) == "Parameter"
        and tensor.leaf is True
        and tensor.grad is True
        and tensor.kept is None
        and not (thing.owners or thing.escaped or thing.summary)
        and thing.serial > turn.start
    )


_HOLDING = (ev.SetAttribute, ev.SetItem, ev.Register, ev.Rebind, ev.Assign)
_USING = (
    ev.GradWrite, ev.GradChange, ev.SetData, ev.Augment, ev.Zero, ev.Clip, ev.AddGroup, ev.Hook, ev.Unknown, ev.Freeze,
)  # fmt: skip


def _had(timeline: tl.Timeline, thing: Thing, backward: ev.Backward) -> bool:
    """Whether the code that goes backward, or anything that lasts, has the parameter in its hands."""
    for event in timeline.events(*_HOLDING):
        own = isinstance(event, (ev.Assign, ev.Rebind)) and event.place.chunk is not backward.place.chunk
        if not own and any(value is thing for value in contents(event.value)):
            return True
    return any(event.subject is None or event.concerns(thing) for event in timeline.events(*_USING))
