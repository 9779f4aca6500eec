"""How closely the next step of an optimizer is looked at: awake, at a glance, or asleep.

Which steps are checked says `sampling`. An observer is awake at those that are checked thoroughly. Else it sleeps:
steps, backwards and zeroings are merely counted, and if their numbers do not fit what was seen before it wakes for a
while. At a step that is checked, but not thoroughly, it takes a glance when the step is over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.runtime.counting import Counting
from gradcheck_lint.runtime.sampling import Sampling

if TYPE_CHECKING:
    from gradcheck_lint.runtime.observer import Observer

_ATTEND = 5  # how often something odd on a step between samples makes the observer wake
_CHANGES = 5  # how often a change by the program does, as a state that is loaded


class Attention:
    """That of one observer."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._session = observer.session
        self._watched = observer.watched
        self.sampling = Sampling(observer.session.options, observer.session.guard)
        self.counting = Counting()
        self.awake = True  # this step is checked thoroughly
        self.glances = False  # asleep, but this step is looked at when it is over
        self._fed = False  # there were gradients when it fell asleep, after a step
        self._attended = 0
        self._changes = 0

    @property
    def steps(self) -> int:
        """How many steps the optimizer has made, with those that are only counted so far."""
        return self._watched.steps + self.counting.steps

    def go_on(self) -> None:
        """A step is over that was looked at, or before one that will be: what is done at the next one."""
        steps = self._watched.steps
        coming = self.sampling.next(steps)
        if coming > steps + 1:
            self._sleep(self.sampling.rest(steps) - 1 - steps)
        elif not self.sampling.thorough(coming):
            self._sleep(1, glances=True)
        elif self.awake:
            self._observer.machine.step_over()
        else:
            self._wake()

    def thorough_step_ends(self) -> None:
        watched = self._watched
        if watched.steps > 1:
            self.counting.learn()
        else:
            self.counting.skip()
        self.sampling.done(watched.steps)
        self.go_on()

    def _sleep(self, steps: int, *, glances: bool = False) -> None:
        """Until so many more are over."""
        self.counting.sleep(steps)
        if self.awake:
            self.awake = False
            self._fed = self._observer.subject.has_gradients()
            self._observer.machine.sleep()
            self._observer.stepping.sleep()
        elif glances is self.glances:
            return
        elif glances:
            self.sampling.woke()
        self.glances = glances
        self._session.listen()

    def _wake(self) -> None:
        """A step has just ended: whatever gradients there are, it has used them."""
        if not self.glances:
            self.sampling.woke()
        self.awake, self.glances = True, False
        self._observer.stepping.wake()
        self._observer.machine.wake()
        self._session.listen()

    def stop(self) -> None:
        """Other threads work on the optimizer: from now on its steps are counted and no more."""
        self.awake = self.glances = False
        self.counting.slept = 0

    def morning(self) -> None:
        """A step has just ended that was the last of a night, or at which a glance is due."""
        self.settle()
        if self.glances:
            self._glance()
        self.go_on()

    def _glance(self) -> None:
        """A step is over; its gradients are still there."""
        observer = self._observer
        self._watched.checked += 1
        self._session.guard.ask("glance", observer, observer.mark_of("step"))
        if self._fed and not observer.opaque and not observer.subject.has_gradients():
            self.suspect()

    def settle(self) -> None:
        """Bring the numbers up to date that are only counted while asleep."""
        steps = self.counting.settle()
        self._watched.steps += steps
        odd = self.counting.odd(steps) if not self._observer.away else None
        if odd is None or self._attended >= _ATTEND:
            return
        self._attended += 1
        self.sampling.attend(self._watched.steps + 3)
        more, lost = odd
        if 0 < more < steps and 0 < lost < self._observer.machine.window.usual() * more:
            self._observer.verdicts.discarded_unseen(lost // more or 1)

    # What is suspected

    def attend(self, steps: int = 3) -> None:
        """Check the next steps thoroughly, from the next one on that begins."""
        self.sampling.attend(self.steps + steps)
        self.counting.night = 0

    def look_closely(self) -> None:
        """Something is suspected: the next rounds are recorded with all that can be known of them."""
        if self.sampling.attending(self._watched.steps + 1):
            self._observer.machine.closely = True

    def changed(self) -> None:
        """The program has changed what is trained: the next steps are looked at, a few times in a run."""
        if not self.awake and self._changes < _CHANGES:
            self._changes += 1
            self.attend()

    def suspect(self) -> None:
        """The same, and if the next steps would not be checked they are now: a few times in a run."""
        if self._attended < _ATTEND and not self.sampling.attending(self.steps + 1):
            self._attended += 1
            self.attend()
        self.look_closely()
