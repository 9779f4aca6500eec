"""The backwards whose gradients the next step will use, and what led to the latest steps."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradcheck_lint.runtime.record import Event
    from gradcheck_lint.runtime.sites import Mark
    from gradcheck_lint.runtime.trails import Trail

ROUNDS = 24  # of the latest steps, what led to each


class Round(NamedTuple):
    """What led to one step."""

    mark: Mark | None  # of the step
    trail: Trail
    window: tuple[Event, ...]  # the backwards whose gradients it used
    dropped: tuple[Dropped, ...]  # those whose gradients were cleared before
    clips: tuple[Mark | None, ...]
    untouched: bool  # whether the gradients were still what backward had made of them, where that was looked at


class Dropped(NamedTuple):
    """Gradients that were cleared before any step had used them."""

    window: tuple[Event, ...]
    mark: Mark | None  # of the clearing
    usual: bool  # whether that line has also cleared when there was nothing to lose


class Window:
    """The backwards since the gradients were last used or cleared."""

    def __init__(self) -> None:
        self.rounds: deque[Round] = deque(maxlen=ROUNDS)
        self.old = False  # it began on gradients that nobody had cleared
        self._events: list[Event] = []
        self._sizes: deque[int] = deque(maxlen=16)  # how many backwards each of the latest steps used
        self._dropped: list[Dropped] = []
        self._clips: list[Mark | None] = []

    def __len__(self) -> int:
        return len(self._events)

    def __iter__(self) -> Iterator[Event]:
        return iter(self._events)

    def add(self, event: Event) -> None:
        self._events.append(event)

    def clip(self, mark: Mark | None) -> None:
        if self._events:
            self._clips.append(mark)

    def drop(self, mark: Mark | None, *, usual: bool) -> None:
        """What it holds is cleared, unused."""
        self._dropped.append(Dropped(tuple(self._events), mark, usual))

    @property
    def dropped(self) -> bool:
        """Whether something was, since the last step."""
        return bool(self._dropped)

    @property
    def first(self) -> Event | None:
        return self._events[0] if self._events else None

    def used(self) -> None:
        """A step uses it."""
        if self._events:
            self._sizes.append(len(self._events))

    def usual(self) -> int:
        """How many backwards the latest steps used, if it was the same number for each; else 0."""
        return self._sizes[-1] if len(self._sizes) > 1 and len(set(self._sizes)) == 1 else 0

    def end_round(self, mark: Mark | None, trail: Trail, *, untouched: bool) -> None:
        """Remember what led to a step."""
        self.rounds.append(Round(mark, trail, tuple(self._events), tuple(self._dropped), tuple(self._clips), untouched))
        self._dropped, self._clips = [], []

    def clear(self) -> None:
        """What comes now belongs to another step."""
        self._events = []

    def forget(self) -> None:
        """What comes next is not heard."""
        self._events, self._dropped, self._clips = [], [], []
