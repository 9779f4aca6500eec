"""Schedules that were laid out for another training, by what they were told and how far they have come.

Sightings: ScheduleClimbs (a cosine that was over long ago has taken the rate back up when training ends) and
RateAsFactor (a LambdaLR is given a rate, and multiplies the rate by it).
"""

from __future__ import annotations

import math
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

from gradcheck_lint.laws import clock
from gradcheck_lint.laws.answer import NO, YES
from gradcheck_lint.runtime import reading, sites, stores
from gradcheck_lint.runtime.call import Call
from gradcheck_lint.runtime.check import Check
from gradcheck_lint.runtime.sightings.clock import RateAsFactor, ScheduleClimbs

if TYPE_CHECKING:
    from gradcheck_lint.runtime.observer import Observer
    from gradcheck_lint.runtime.session import Session
    from gradcheck_lint.runtime.sites import Mark

_LARGEST = 0.02  # base rate that is no factor with which a warm-up begins


class _Seen(NamedTuple):
    """A cosine when it was looked at last."""

    scheduler: weakref.ref[Any]
    steps: int  # of its optimizer
    moves: int
    length: int
    base: float
    least: float


class Lengths(Check):
    """Reads the numbers of schedules of torch's own."""

    hears = frozenset({Call.SCHEDULER_BUILD})

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._cosines: list[weakref.ref[Any]] = []
        self._seen: dict[int, _Seen] = {}  # by optimizer
        self._lambdas: dict[int, tuple[weakref.ref[Any], Mark | None, list[float]]] = {}  # by optimizer

    def call_ended(
        self, kind: Call, args: tuple[Any, ...], kwargs: dict[str, Any], result: object, error: BaseException | None
    ) -> None:
        name = type(args[0]).__name__
        if error is not None or not type(args[0]).__module__.startswith("torch.optim"):
            return
        if name == "CosineAnnealingLR":
            self._cosines = [ref for ref in self._cosines if ref() is not None]
            self._cosines.append(weakref.ref(args[0]))
        elif name == "LambdaLR":
            optimizer = args[0].optimizer
            groups = [(reading.rate(group), group.get("initial_lr")) for group in optimizer.param_groups]
            if groups and args[0].last_epoch == 0 and all(_squared(now, base) for now, base in groups):
                rates = [float(now) for now, _ in groups if now is not None]
                code = sites.code_of(args[0].lr_lambdas[0])
                mark = stores.returned(code) if code is not None else None
                self._lambdas[id(optimizer)] = (weakref.ref(args[0]), mark or sites.here(2), rates)

    def before_update(self, observer: Observer, mark: Mark | None) -> None:
        if self._cosines or self._lambdas:
            self.glance(observer, mark)

    def glance(self, observer: Observer, mark: Mark | None) -> None:
        if self._cosines:
            self._follow(observer)
        known = self._lambdas.get(id(observer.optimizer)) if self._lambdas else None
        if known is None:
            return
        ref, made, first = known
        scheduler = ref()
        now = [reading.rate(group) for group in observer.groups()]
        grows = len(now) != len(first) or any(a is None or a > b for a, b in zip(now, first, strict=True))
        if scheduler is None or grows:
            del self._lambdas[id(observer.optimizer)]  # a warm-up
        elif scheduler.last_epoch >= 2 and now != first:  # else it may be a factor that holds the rate low for a while
            del self._lambdas[id(observer.optimizer)]
            base = scheduler.base_lrs[0]
            self.session.take(RateAsFactor(observer.scene(made), rate=first[0], base=float(base)))

    def _follow(self, observer: Observer) -> None:
        """How far the cosine of an optimizer has come: it may be gone when the watching ends."""
        for ref in self._cosines:
            scheduler = ref()
            if scheduler is None or scheduler.optimizer is not observer.optimizer:
                continue
            base, least = scheduler.base_lrs[0], scheduler.eta_min
            if isinstance(base, (int, float)) and base > least:
                moves, length = scheduler.last_epoch, scheduler.T_max
                self._seen[observer.watched.index] = _Seen(ref, observer.watched.steps, moves, length, base, least)

    def ended(self) -> None:
        for observer in self.session.observers.values():
            seen = self._seen.get(observer.watched.index)
            if seen is None:
                continue
            scheduler = seen.scheduler()
            if scheduler is not None:
                moves, rate = scheduler.last_epoch, reading.rate(scheduler.optimizer.param_groups[0])
            else:  # it went on as it did until then
                moves = round(seen.moves * observer.steps / max(seen.steps, 1))
                rate = seen.least + (seen.base - seen.least) * (1 + math.cos(math.pi * moves / seen.length)) / 2
            if rate is None:
                continue
            left = (rate - seen.least) / (seen.base - seen.least)
            verdict = clock.climbed(moves=moves, length=seen.length, left=left)
            if verdict is not NO:
                scene = observer.scene(observer.mark_of("schedule"))
                sure = verdict is YES
                self.session.take(ScheduleClimbs(scene, moves=moves, length=seen.length, rate=rate, sure=sure))


def _squared(rate: float | None, base: object) -> bool:
    """Whether the first factor of a schedule is the rate that it multiplies."""
    if rate is None or not isinstance(base, (int, float)) or not 0 < base <= _LARGEST:
        return False
    return abs(rate - base * base) <= 1e-9 * base * base
