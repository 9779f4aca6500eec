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
    sure: bool  # nothing says that each of them is meant to begin anew


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


@kind
class ScheduleClimbs(Sighting):
    """A cosine has gone on after its end, and the rate is high again when training ends."""

    moves: int
    length: int
    rate: float
    sure: bool


@kind
class RateAsFactor(Sighting):
    """The function of a LambdaLR gives the rate itself."""

    rate: float
    base: float
