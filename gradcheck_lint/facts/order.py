"""What may run before and after an event, along the tree of a timeline.

Jumps are respected: nothing runs after a `return` but what follows the call, and the other arms of a branch run
neither before nor after. An event in a loop is followed by the rounds to come, and they by all that is after the loop.
"""

from __future__ import annotations

from collections.abc import Sequence as Steps

from gradcheck_lint.source.effort import spend
from gradcheck_lint.source.events import Event
from gradcheck_lint.source.timeline import Branch, Call, Guarded, Jump, Loop, Part, Sequence, Timeline
from gradcheck_lint.source.tree import Exit

_END, _RETURN, _BREAK, _CONTINUE = Exit.END, Exit.RETURN, Exit.BREAK, Exit.CONTINUE
_Exits = frozenset[Exit]


def after(timeline: Timeline, event: Event) -> list[Event]:
    """The events that may run after `event`, in order; itself among them where a loop comes back to it."""
    found: list[Event] = []
    exits: _Exits = frozenset({_END})
    for step, index in reversed(timeline.path(event)):
        if isinstance(step, Sequence):
            if _END in exits:
                exits = (exits - {_END}) | _run(step.steps[index + 1 :], found)
        elif isinstance(step, Loop):
            if not step.once and exits & {_END, _CONTINUE}:
                exits |= _run(step.body.steps, found)
            exits = _left(step, exits)
        elif isinstance(step, Guarded) and index == 0:
            exits = _guarded(exits, _run(step.final.steps, found))
        elif isinstance(step, Call):
            exits = _returned(exits)
    return found


def before(timeline: Timeline, event: Event) -> list[Event]:
    """The events that may run before `event` the first time that it does, in order."""
    found: list[Event] = []
    for step, index in timeline.path(event):
        if isinstance(step, Sequence):
            _run(step.steps[:index], found)
        elif isinstance(step, Guarded) and index == 1:
            _run(step.body.steps, found)
    return found


def _run(steps: Steps[Part], found: list[Event]) -> _Exits:
    """Collect the events of some steps; how they are left."""
    exits: _Exits = frozenset()
    spend(len(steps))
    for step in steps:
        if isinstance(step, Event):
            found.append(step)
            continue
        ways = _through(step, found)
        exits |= ways - {_END}
        if _END not in ways:
            return exits
    return exits | {_END}


def _through(step: Part, found: list[Event]) -> _Exits:
    if isinstance(step, Event):
        found.append(step)
        return frozenset({_END})
    if isinstance(step, Jump):
        return frozenset() if step.kind is Exit.RAISE else frozenset({step.kind})
    if isinstance(step, Sequence):
        return _run(step.steps, found)
    if isinstance(step, Branch):
        return frozenset().union(*(_run(arm.steps, found) for arm in step.arms))
    if isinstance(step, Loop):
        exits = _run(step.body.steps, found)
        return _left(step, exits if step.endless else exits | {_END})
    if isinstance(step, Guarded):
        return _guarded(_run(step.body.steps, found), _run(step.final.steps, found))
    return _returned(_run(step.body.steps, found))


def _guarded(exits: _Exits, final: _Exits) -> _Exits:
    """How a guarded body is left, by the ways in which the body and its `finally` are."""
    return (exits if _END in final else frozenset()) | (final - {_END})


def _left(loop: Loop, exits: _Exits) -> _Exits:
    """How a loop is left, by the ways in which its body is."""
    ends = {_BREAK} if loop.endless else {_BREAK, _CONTINUE, _END}
    return (exits & {_RETURN}) | ({_END} if exits & ends else frozenset())


def _returned(exits: _Exits) -> _Exits:
    return frozenset({_END}) if exits & {_END, _RETURN} else frozenset()
