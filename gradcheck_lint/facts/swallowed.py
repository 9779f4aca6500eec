"""Errors in a training step that a handler swallows, so that the loop goes on with the next batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source import tree
from gradcheck_lint.source.events import Backward, Event, GradWrite, Step, Turning, Unknown, Zero
from gradcheck_lint.source.place import Place, UnplacedError

if TYPE_CHECKING:
    from gradcheck_lint.source.timeline import Timeline

_ANY = frozenset({"", "Exception", "BaseException", "RuntimeError", "ValueError"})


class Swallowing(NamedTuple):
    """A `try` around a step in a loop, and the handler that swallows what goes wrong in it."""

    handler: Place
    backward: Backward
    cleared: Event | None
    """What clears gradients in each round all the same, before backward or behind the `try`; None if nothing does."""
    silent: bool
    """Whether the handler does not even tell of it."""


def swallowing(timeline: Timeline) -> Iterator[Swallowing]:
    """The handlers that let a loop go on after an error between backward and step, and do not clear gradients."""
    for backward, around in timeline.located(Backward):
        attempts = [part for part in around if isinstance(part, tl.Attempt)]
        attempt = attempts[-1] if attempts else None
        written = attempt.place.node if attempt is not None else None
        if attempt is None or not isinstance(written, tree.Try):
            continue
        loops = [part for part in around[: around.index(attempt)] if isinstance(part, tl.Loop) and not part.once]
        inner = [part for part in around[around.index(attempt) :] if isinstance(part, tl.Loop) and not part.once]
        arm = around[around.index(attempt) + 1]
        if not loops or inner or not isinstance(arm, tl.Arm) or arm.index != 0:
            continue
        if _in_else(written, backward, around[around.index(attempt) :]):
            continue
        if not any(isinstance(event, Step) for event in tl.inside(attempt.arms[0])):
            continue
        for index, handler in enumerate(written.handlers):
            events = list(tl.inside(attempt.arms[index + 1])) if index + 1 < len(attempt.arms) else []
            if any(isinstance(event, (Turning, Unknown)) for event in events) or not _passes(handler):
                continue
            place = _catches_all(attempt.place, index)
            if place is not None:
                cleared = _cleared(timeline, loops[-1], attempt, backward)
                yield Swallowing(place, backward, cleared, _silent(timeline, place))


def _in_else(written: tree.Try, event: Event, inside: Sequence[tl.Part]) -> bool:
    """Whether something runs in the `else` of a `try`, whose errors the handlers do not see."""
    nodes = {id(node) for node in tree.walk_block(written.orelse)}
    calls = [part.place.node for part in inside if isinstance(part, tl.Call)]
    return any(id(node) in nodes for node in (event.place.node, event.statement.node, *calls))


def _passes(handler: tree.Block) -> bool:
    """Whether a handler does nothing but go on: no jump out of the loop, and no call of anything but a message."""
    return all(
        (isinstance(s, tree.Jump) and s.kind is tree.Exit.CONTINUE)
        or (isinstance(s, tree.Evaluate) and isinstance(s.value, tree.Constant))
        for s in handler
    )


def _catches_all(attempt: Place, index: int) -> Place | None:
    """The place of a handler that takes all errors of a step; None where it takes special ones, as of an iterator."""
    import libcst as cst

    try:
        node = attempt.concrete
    except UnplacedError:
        return None
    if not isinstance(node, cst.Try) or index >= len(node.handlers):
        return None
    handler = node.handlers[index]
    kind = handler.type
    name = kind.value if isinstance(kind, cst.Name) else "" if kind is None else "?"
    return attempt.chunk.place(handler) if name in _ANY else None


def _cleared(timeline: Timeline, loop: tl.Loop, attempt: tl.Attempt, backward: Backward) -> Event | None:
    """What clears gradients in a round of the loop before it comes to backward, or behind the `try`."""
    behind = False
    for event, around in timeline.within(loop):
        behind = behind or event is backward
        if isinstance(event, (Zero, GradWrite)) or (isinstance(event, Unknown) and event.subject is None):
            if not behind or attempt not in around:
                return event
    return None


def _silent(timeline: Timeline, handler: Place) -> bool:
    """Whether the text of a handler has nothing but `pass` and `continue`: a message is not read as code."""
    span, module = handler.span, timeline.home
    if span.path != module.path:
        return False
    lines = [line.partition("#")[0].strip() for line in module.text.split("\n")[span.line - 1 : span.end_line]]
    return all(line in ("", "pass", "continue", "...") or line.startswith("except") for line in lines)
