"""Which steps of an optimizer are checked, and which of those thoroughly.

The first steps are checked thoroughly: all checks are asked. After them each `every`-th step is checked at a glance,
for what costs next to nothing (who holds which tensor, is the loss a number), and one of some fifty is a sample: it is
checked thoroughly, and values are read. Both come less often where they would take more than `budget` of the time, half
of it for samples and half for the rest.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from gradcheck_lint.runtime.replicas import world

if TYPE_CHECKING:
    from gradcheck_lint.runtime.guard import Guard
    from gradcheck_lint.runtime.session import Options

FIRST = 20  # steps that are checked thoroughly before sampling begins
EARLY = frozenset({1, 2, 5, 10, 20})  # at which of them values are read
RARELY = 10  # one in so many samples also looks at what seldom changes and takes longer
APART = 50  # steps from one sample to the next, at the least
_FARTHEST = 20  # times that: samples that cost much are no farther apart; nor checks, times `every`


class Sampling:
    """The steps of one optimizer, counted from 1."""

    def __init__(self, options: Options, guard: Guard) -> None:
        self.number = 0  # of samples so far, after the first steps
        self._budget = options.budget / 2
        self._guard = guard
        self._until = FIRST
        self._every = options.every
        self.apart = options.every * -(-APART // options.every)  # steps from one sample to the next, at the least
        self._deep = options.level == "deep"
        self._values = options.level != "light"
        self._due = 0  # the step before which no sample is taken
        self._roused = False
        self._latest = 0  # the step of the latest sample
        self._at = 0.0  # when that was
        self._awake = 0  # the step before which none is checked
        self._woke = 0.0  # the seconds of watching until it last woke

    def attend(self, step: int) -> None:
        """Check all steps up to this one thoroughly."""
        self._until = max(self._until, step)

    def attending(self, step: int) -> bool:
        return step <= self._until

    def rouse(self) -> None:
        """Something has happened that a thorough look should follow, whenever the next comes."""
        self._roused = True

    def next(self, after: int) -> int:
        """The next step that is checked."""
        if after < self._until:
            return after + 1
        return -(-max(after + 1, self._awake) // self._every) * self._every

    def woke(self) -> None:
        """The next step is checked, after some that were not."""
        self._woke = self._guard.spent_before()

    def rest(self, after: int) -> int:
        """The same as `next`, when a few steps have been checked and the next ones are not."""
        if self._latest and after > self._latest:
            far = self._steps_for(self._guard.spent() - self._woke, time.perf_counter(), after)
            self._awake = after + min(far, _FARTHEST * self._every)
        return self.next(after)

    def _steps_for(self, cost: float, now: float, step: int) -> int:
        """How many steps take so long that seconds of watching are the part of it that they may be."""
        budget = self._budget
        if not budget or not self._alone():
            return 0
        one = (now - self._at) / (step - self._latest)
        return int(cost / (budget * max(one, 1e-9)))

    def reads(self, step: int) -> bool:
        """Whether values are read at a step that is checked."""
        return self._values and (step in EARLY or self._deep or (step > FIRST and self.is_sample(step)))

    def thorough(self, step: int) -> bool:
        """Whether a step that is checked is checked thoroughly."""
        return step <= self._until or self._deep or self._roused or self.is_sample(step)

    def is_sample(self, step: int) -> bool:
        """Whether a step is a sample, or would be one if it came after the first steps."""
        return step >= self._due and step % self.apart == 0

    def rarely(self, step: int) -> bool:
        """Whether it is one of the few samples that look at everything."""
        return self.is_sample(step) and self.number % RARELY == 0

    def done(self, step: int) -> None:
        """A thorough step is over."""
        self._roused = False
        if step < FIRST or not (self._deep or self.is_sample(step) or step == FIRST):
            return
        self.number += step > FIRST
        now = time.perf_counter()
        if self._latest and step > self._latest:
            far = self._steps_for(self._guard.spent() - self._woke, now, step)
            self._due = step + min(far, _FARTHEST * self.apart)
        self._at, self._latest = now, step

    @staticmethod
    def _alone() -> bool:
        """Whether this is the only process; ranks are compared at the same steps."""
        return world()[1] == 1
