"""Learning rates while the run goes on: has a schedule taken them to zero, or below, and training does not end?

Sighting: ScheduleOver.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.laws import clock
from gradcheck_lint.runtime import reading
from gradcheck_lint.runtime.check import Check
from gradcheck_lint.runtime.sightings.clock import ScheduleOver

if TYPE_CHECKING:
    from gradcheck_lint.runtime.observer import Observer
    from gradcheck_lint.runtime.session import Session
    from gradcheck_lint.runtime.sites import Mark


class Rates(Check):
    """Reads numbers that are at hand: no rate that is a tensor on an accelerator."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._seen: dict[int, clock.Rates] = {}  # by optimizer
        self._told: set[int] = set()

    def before_update(self, observer: Observer, mark: Mark | None) -> None:
        self.glance(observer, mark)

    def glance(self, observer: Observer, mark: Mark | None) -> None:
        index, step = observer.watched.index, observer.watched.steps
        rates = _rates(observer)
        if rates and index not in self._told and self._seen.setdefault(index, clock.Rates()).ended(rates, step):
            self._tell(observer, step, min(rates))

    def ended(self) -> None:
        for observer in self.session.observers.values():
            index = observer.watched.index
            seen = self._seen.get(index)
            if seen is None or index in self._told:
                continue
            rates, step = _rates(observer), observer.steps
            if not rates:  # the optimizer is gone
                rates, step = [0.0], seen.latest
            if seen.ended_early(rates, step, observer.steps):
                self._tell(observer, step, min(rates))

    def _tell(self, observer: Observer, step: int, rate: float) -> None:
        self._told.add(observer.watched.index)
        seen = self._seen[observer.watched.index]
        scene = observer.scene(observer.mark_of("schedule") or observer.mark_of("step"), step)
        self.session.take(ScheduleOver(scene, since=seen.since, rate=seen.below(rate), highest=seen.highest))


def _rates(observer: Observer) -> list[float]:
    """The rates of all groups, if a schedule moves them and they are known."""
    rates = []
    for group in observer.groups():
        rate = reading.rate(group)
        if rate is None or "initial_lr" not in group:
            return []
        rates.append(rate)
    return rates
