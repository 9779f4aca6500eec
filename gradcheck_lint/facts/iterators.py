"""Follows iterators over parameters through a timeline, to find out who comes to one that is used up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from gradcheck_lint.source.events import Consume, NewIterator
from gradcheck_lint.source.follow import Flow, States, Walk
from gradcheck_lint.source.timeline import Loop
from gradcheck_lint.source.torch_api import FOREIGN_OPTIMIZERS
from gradcheck_lint.source.values import Thing

if TYPE_CHECKING:
    from gradcheck_lint.source.events import Event
    from gradcheck_lint.source.timeline import Timeline

ABSENT = "absent"  # not made yet, or not on this path
FRESH = "fresh"  # nothing has been taken out of it
BEGUN = "begun"  # only a part has been taken out of it, which may be meant
UNKNOWN = "unknown"
SPENT = "spent"

_PARTLY = frozenset({"next", "for, left early"})
_MAYBE = "?"


class Use(NamedTuple):
    """An iterator is used: by which event, and in which states it may be then."""

    event: Consume
    thing: Thing
    states: frozenset[str]

    @property
    def spent(self) -> bool:
        """Whether nothing is left in it on any path."""
        return self.states == {SPENT}

    @property
    def short(self) -> bool:
        """Whether an optimizer or a clipping, which want all parameters, get only the rest on every path."""
        by = self.event.by
        return (by == "clip" or by in FOREIGN_OPTIMIZERS) and bool(self.states) and self.states <= {SPENT, BEGUN}


def uses(timeline: Timeline) -> Iterator[Use]:
    """The uses of all iterators that an entry point uses twice, or in a loop."""
    seen: set[int] = set()
    again: dict[int, Thing] = {}
    for event, around in timeline.located(Consume):
        thing = event.subject
        if thing.serial in seen or any(isinstance(step, Loop) for step in around):
            again.setdefault(thing.serial, thing)
        seen.add(thing.serial)
    for thing in again.values():
        yield from _Path(timeline, thing).uses()


class _Path(Walk):
    """The paths of one iterator."""

    def __init__(self, timeline: Timeline, thing: Thing) -> None:
        super().__init__(timeline, (e for e in timeline.events(NewIterator, Consume) if e.concerns(thing)))
        self.thing = thing
        self.met: dict[int, tuple[Consume, set[str]]] = {}
        made = any(e.concerns(thing) for e in timeline.events(NewIterator))
        self.run(timeline.tree, frozenset({ABSENT if made else UNKNOWN}))

    def uses(self) -> Iterator[Use]:
        for event, states in self.met.values():
            yield Use(event, self.thing, frozenset(states - {ABSENT}))

    def loop(self, step: Loop, states: States) -> Flow:
        if not step.groups:
            return super().loop(step, states)
        flow = self.run(step.body, states)  # there may be one round only
        return Flow(flow.end | flow.breaks | flow.continues, returns=flow.returns)

    def event(self, event: Event, states: States) -> States:
        if isinstance(event, NewIterator) and event.concerns(self.thing):
            return frozenset({FRESH})
        if not isinstance(event, Consume) or event.subject is not self.thing:
            return states
        by = event.by
        if by != _MAYBE and self.steady[-1]:
            self.met.setdefault(id(event), (event, set()))[1].update(states)
        if by == _MAYBE:
            return states | {UNKNOWN} if states != {SPENT} else states
        after = BEGUN if by in _PARTLY else SPENT
        return frozenset(s if s in (ABSENT, SPENT) else after for s in states)
