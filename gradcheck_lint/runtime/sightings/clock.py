"""How often a schedule moves, and what is built anew as often as it should not be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.laws.clock import Built
from gradcheck_lint.runtime.sighting import Sighting, kind

if TYPE_CHECKING:
    from gradcheck_lint.runtime.record import Site


@kind
class BuiltAnew(Sighting):
    """Built anew in each turn of a loop."""

    what: Built
    times: int
    steps: int  # the most that one of them was used for
    falling: bool = False  # each has a lower rate than the one before


@kind
class ScheduleElsewhere(Sighting):
    """The schedule moves the rate of an optimizer that is never stepped."""

    scheduler: str  # the class
    scheduled: Site | None


@kind
class ScheduleLeft(Sighting):
    """The same, of one that another has replaced."""

    scheduler: str
    scheduled: Site | None
    moves: int


@kind
class ScheduleUnfinished(Sighting):
    """A schedule that counts batches is moved once per epoch."""

    times: int
    total: int


@kind
class ScheduleOver(Sighting):
    """The schedule has come to its end, and training goes on."""

    since: int
    rate: float
    highest: float
