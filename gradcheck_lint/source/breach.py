"""Where the code breaks the protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gradcheck_lint.source.events import Clip, Event, Schedule, Step

if TYPE_CHECKING:
    from gradcheck_lint.source.timeline import Part, Timeline
    from gradcheck_lint.source.values import Thing


class Breach(NamedTuple):
    """A place at which the protocol is broken: which way (a word of `cycle`), by which event, for which optimizer.

    `made` are the events that made the gradients, `cleared` those that cleared them; `around` are the parts of the
    timeline around the event, outermost first; `certain` is False where something unseen might mend it.
    """

    kind: str
    event: Event
    optimizer: Thing
    made: tuple[Event, ...]
    cleared: tuple[Event, ...]
    around: tuple[Part, ...]
    timeline: Timeline
    certain: bool

    @property
    def step(self) -> Step:
        """The step that breaks it, where that is what does (see `cycle`), as in STALE_STEP."""
        assert isinstance(self.event, Step)
        return self.event

    @property
    def clip(self) -> Clip:
        """The clipping that breaks it, as in EMPTY_CLIP."""
        assert isinstance(self.event, Clip)
        return self.event

    @property
    def schedule(self) -> Schedule:
        """The step of a scheduler that breaks it, as in EARLY_SCHEDULE."""
        assert isinstance(self.event, Schedule)
        return self.event
