"""Learning rates while the run goes on: has a schedule taken them to zero, or below, and training does not end?

Sighting: ScheduleOver.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradcheck_lint.runtime import reading
from gradcheck_lint.runtime.check import Check
from gradcheck_lint.runtime.sightings.clock import ScheduleOver

if TYPE_CHECKING:
    from gradcheck_lint.runtime.observer import Observer
    from gradcheck_lint.runtime.session import Session
    from gradcheck_lint.runtime.sites import Mark

NOTHING = 1e-12  # of the highest rate: what rounding leaves of it
LONG, REST = 50, 20  # steps without a rate that are more than a schedule counted short, while it runs and at the end
PART = 0.2  # of all steps so far, which they have to be besides
AGAIN = 2  # steps after which a rate below zero is seen again


@dataclass
class _Rates:
    """Of one optimizer."""

    highest: float = 0.0
    since: int = 0  # the step at which the rate was first seen to be over, if it still is
    latest: int = 0  # that at which it was last looked at
    told: bool = False


class Rates(Check):
    """Reads numbers that are at hand: no rate that is a tensor on an accelerator."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._seen: dict[int, _Rates] = {}

    def before_update(self, observer: Observer, mark: Mark | None) -> None:
        self.glance(observer, mark)

    def glance(self, observer: Observer, mark: Mark | None) -> None:
        seen = self._seen.setdefault(observer.watched.index, _Rates())
        rates = _rates(observer)
        if not rates or seen.told:
            return
        seen.highest = max(seen.highest, *rates)
        step = seen.latest = observer.watched.steps
        if not _over(rates, seen.highest):
            seen.since = 0
        elif not seen.since:
            seen.since = step
        elif step - seen.since >= (AGAIN if min(rates) < 0 else max(LONG, PART * step)):
            self._tell(observer, seen, step, min(rates))

    def ended(self) -> None:
        for observer in self.session.observers.values():
            seen = self._seen.get(observer.watched.index)
            if seen is None or seen.told or not seen.since:
                continue
            rates, steps = _rates(observer), observer.steps
            if not rates:  # the optimizer is gone
                rates, steps = [0.0], seen.latest
            if _over(rates, seen.highest) and steps - seen.since >= max(REST, PART * observer.steps):
                self._tell(observer, seen, steps, min(rates))

    @staticmethod
    def _tell(observer: Observer, seen: _Rates, step: int, rate: float) -> None:
        seen.told = True
        scene = observer.scene(observer.mark_of("schedule") or observer.mark_of("step"), step)
        below = rate if rate < -NOTHING * seen.highest else 0.0
        observer.session.take(ScheduleOver(scene, since=seen.since, rate=below, highest=seen.highest))


def _rates(observer: Observer) -> list[float]:
    """The rates of all groups, if a schedule moves them and they are known."""
    rates = []
    for group in observer.groups():
        rate = reading.rate(group)
        if rate is None or "initial_lr" not in group:
            return []
        rates.append(rate)
    return rates


def _over(rates: list[float], highest: float) -> bool:
    return highest > 0 and (max(rates) <= NOTHING * highest or min(rates) < -NOTHING * highest)
