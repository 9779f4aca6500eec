"""Schedules that were laid out for another training, by what they were told and how far they have come.

Sightings: ScheduleClimbs (a cosine that was over long ago has taken the rate back up when training ends) and
RateAsFactor (a LambdaLR is given a rate, and multiplies the rate by it).
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

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


class Lengths(Check):
    """Reads the numbers of schedules of torch's own."""

    hears = frozenset({Call.SCHEDULER_BUILD})

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._cosines: list[weakref.ref[Any]] = []
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
        if self._lambdas:
            self.glance(observer, mark)

    def glance(self, observer: Observer, mark: Mark | None) -> None:
        known = self._lambdas.get(id(observer.optimizer)) if self._lambdas else None
        if known is None:
            return
        ref, made, first = known
        scheduler = ref()
        now = [reading.rate(group) for group in observer.groups()]
        grows = len(now) != len(first) or any(a is None or a > b for a, b in zip(now, first, strict=True))
        if scheduler is None or grows:
            del self._lambdas[id(observer.optimizer)]  # it grows: a warm-up
        elif scheduler.last_epoch >= 2:
            del self._lambdas[id(observer.optimizer)]
            base = scheduler.base_lrs[0]
            self.session.take(RateAsFactor(observer.scene(made), rate=first[0], base=float(base)))

    def ended(self) -> None:
        for ref in self._cosines:
            scheduler = ref()
            if scheduler is None:
                continue
            optimizer = scheduler.optimizer
            observer = self.session.observers.get(id(optimizer))
            if observer is None or len(optimizer.param_groups) != len(scheduler.base_lrs):
                continue
            group, base, least = optimizer.param_groups[0], scheduler.base_lrs[0], scheduler.eta_min
            rate = reading.rate(group)
            if rate is None or not isinstance(base, (int, float)) or base <= least:
                continue
            moves, length = scheduler.last_epoch, scheduler.T_max
            verdict = clock.climbed(moves=moves, length=length, left=(rate - least) / (base - least))
            if verdict is not NO:
                scene = observer.scene(observer.mark_of("schedule"))
                self.session.take(ScheduleClimbs(scene, moves=moves, length=length, rate=rate, sure=verdict is YES))


def _squared(rate: float | None, base: object) -> bool:
    """Whether the first factor of a schedule is the rate that it multiplies."""
    if rate is None or not isinstance(base, (int, float)) or not 0 < base <= _LARGEST:
        return False
    return abs(rate - base * base) <= 1e-9 * base * base
