"""What is counted while an observer sleeps: its steps, and how often anybody clears gradients or goes backward."""

from __future__ import annotations

from gradcheck_lint.runtime import patches


class _Habit:
    """How often gradients were cleared and made on the way to one step, at those that were watched: by anybody."""

    def __init__(self) -> None:
        self._least = self._most = (0, 0)
        self._known = False

    def learn(self, zeros: int, backwards: int) -> None:
        if not self._known:
            self._least = self._most = (zeros, backwards)
            self._known = True
        self._least = (min(zeros, self._least[0]), min(backwards, self._least[1]))
        self._most = (max(zeros, self._most[0]), max(backwards, self._most[1]))

    def fits(self, steps: int, zeros: int, backwards: int) -> bool:
        """Whether so many may have come with so many steps."""
        (fewest, least), (most, greatest) = self._least, self._most
        return not self._known or (
            fewest * steps <= zeros <= most * steps and least * steps <= backwards <= greatest * steps
        )

    def beyond(self, steps: int, zeros: int, backwards: int) -> tuple[int, int]:
        """How many more there were than ever, if they always were as many; else none."""
        if not self._known or self._least != self._most:
            return (0, 0)
        return zeros - steps * self._most[0], backwards - steps * self._most[1]


class Counting:
    """The counters of one optimizer, of the thread in which it steps."""

    def __init__(self) -> None:
        self.slept = self.night = 0  # how often a step ended since it fell asleep, and after how many it wakes
        self.nested = 1  # how many steps of a class and those that it inherits end with one, at the most
        # how many there had been, of all optimizers, when a step ended the last time that this was asked
        self._counts = patches.counts()
        self._zeros, self._backwards = self._counts.zeros, self._counts.backwards
        self._habit = _Habit()

    def sleep(self, steps: int) -> None:
        """Until so many more are over."""
        self.slept, self.night = 0, steps * self.nested

    @property
    def steps(self) -> int:
        """How many were made since it fell asleep."""
        return self.slept // self.nested

    def settle(self) -> int:
        """The same; they are counted anew from now on."""
        steps, self.slept = self.steps, 0
        return steps

    def learn(self) -> None:
        """A step is over that was watched, and not the first."""
        counted = self._since()
        if counted is not None:
            self._habit.learn(*counted)

    def skip(self) -> None:
        """A step is over from which nothing can be learnt."""
        self._since()

    def odd(self, steps: int) -> tuple[int, int] | None:
        """Where it does not fit what was seen before: by how much there were more clearings and more backwards."""
        counted = self._since()
        if counted is None or self._habit.fits(steps, *counted):
            return None
        return self._habit.beyond(steps, *counted)

    def _since(self) -> tuple[int, int] | None:
        """How many zeroings and backwards there were since this was last asked; None if it was in another thread."""
        counts = patches.counts()
        if counts is not self._counts:
            self._counts, self._zeros, self._backwards = counts, counts.zeros, counts.backwards
            return None
        zeros, backwards = counts.zeros - self._zeros, counts.backwards - self._backwards
        self._zeros, self._backwards = counts.zeros, counts.backwards
        return zeros, backwards
