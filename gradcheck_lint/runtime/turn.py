"""Which thread a session listens to: the one that trains. What other threads do is at most counted.

A gradient that another thread's backward may be writing must not even be looked at: torch writes it without Python's
lock, and a reader in between can end the process. So

- one thread has the turn, and only in it the watcher runs (`enter`). At first that is the one that began to watch,
  until one clears or steps a watched optimizer, or goes backward to its parameters: that one has it from then on;
- backward in another thread is asked, before it runs, whether it reaches what is watched (`backward`). If it does, the
  turn passes, or the session lets go of what both work on: it is not looked at any more, and the record says so;
- the turn passes where nobody can be at work: the thread that had it has ended, has never trained, or has left an
  optimizer between two cycles, and another goes on with that;
- the threads that autograd starts for a backward work for the thread that called it, which waits for them.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from gradcheck_lint import cycle
from gradcheck_lint.runtime.graph import reach

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gradcheck_lint.runtime.observer import Observer
    from gradcheck_lint.runtime.session import Session

CROWD = "it is trained in one thread while another, which is watched, trains"
SHARED = "several threads work on its parameters at the same time"
_PATIENCE = 1.0  # seconds for which a thread waits until another has left the watcher
_AT_REST = frozenset({cycle.FRESH, cycle.CLEAN, cycle.SPENT, cycle.OUTSIDE})  # between two cycles, or not judged


class Turn:
    """Who has it, and how it passes on."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.thread = self.opener = threading.get_ident()  # that has it, 0 when the watching is over; that began it
        self.trained = False  # whether that thread has trained what is watched
        self.inside = 0  # the thread in which the watcher runs at this moment
        self._passing = threading.Lock()
        self._setting = threading.Lock()
        self._closed = False

    # The watcher runs in one thread

    def enter(self, me: int) -> bool:
        """Whether the watcher may run in this thread now; `leave` must follow."""
        if me != self.thread and not self.deputy(me):
            return False
        with self._setting:  # autograd may have several threads at work, one for each device
            if self.inside:
                return False
            self.inside = me
        if me != self.thread and not self.deputy(me):  # it was passed on in between
            self.inside = 0
            return False
        return True

    def leave(self) -> None:
        """The watcher is done for now."""
        self.inside = 0

    def deputy(self, me: int) -> bool:
        """Whether this is a thread of autograd's that works for the one that has the turn."""
        return bool(self._session.in_backward) and not self._closed and not _is_of_python(me)

    def _alone(self, me: int) -> bool:
        """Wait until no other thread is in the watcher; a thread that waits there for us in turn is not waited for."""
        end = time.monotonic() + _PATIENCE
        while self.inside not in (0, me):
            if time.monotonic() > end:
                return False
            time.sleep(0.0002)
        return True

    # How it passes on

    def begins(self, me: int) -> bool:
        """Another thread makes a call that may be the beginning of training; whether it has the turn now.

        Only where whatever comes is watched, and not a thread that has a watch of its own.
        """
        if self.deputy(me):
            return True
        return self.follows(me) and self._is_free() and self._take(me, trains=False)

    def follows(self, me: int) -> bool:
        """Whether what another thread builds is a concern of this session's."""
        from gradcheck_lint.runtime import patches

        others = (session for session in list(patches.ACTIVE) if session is not self._session)
        return self._session.options.everything and not any(session.turn.opener == me for session in others)

    def works_on(self, me: int, observer: Observer, *, steps: bool) -> bool:
        """A thread clears or steps a watched optimizer; whether that is listened to.

        Where it has the turn, another may have worked on this optimizer before.
        """
        if self.deputy(me):
            return True
        if self._closed:
            return me == self.thread
        if me == self.thread or self._is_free():
            done = observer.owner in (0, me) or self._is_at_rest(observer, steps=steps) or not _lives(observer.owner)
        else:
            done = self._has_left(observer, steps=steps)
        if not done:
            self._part([observer], set())
            return False
        if me != self.thread and not self._take(me, trains=True):
            return False
        self.trained = True
        observer.owner = me
        return True

    def backward(self, me: int, roots: Iterable[Any]) -> bool:
        """Another thread is about to go backward; whether that is listened to.

        Where it reaches what is watched, nobody looks at that any more when this returns, but this thread.
        """
        if self.deputy(me):
            return True
        if self._closed:
            self._alone(me)
            return False
        leaves = reach(roots).leaves  # which have to live while their ids are compared
        ids = {id(leaf) for leaf in leaves}
        session = self._session
        reached = [o for o in list(session.observers.values()) if not ids.isdisjoint(o.ids())]
        if not reached and not session.models.holds(ids):
            return False
        if reached and self._is_free():
            return self._take(me, trains=True)
        lost = [observer for observer in reached if not self._has_left(observer, steps=False)]
        if lost or not reached:
            self._part(lost, ids)
        return len(lost) < len(reached) and self._take(me, trains=True)

    def close(self, me: int) -> bool:
        """The watching ends in this thread; whether what is watched may still be looked at."""
        former, self.thread, self._closed = self.thread, me, True
        free = self._alone(me)
        self.inside = me
        if former == me or not self.trained or not _lives(former):
            return free
        from gradcheck_lint.runtime import patches

        return patches.no_backward_of(former, _PATIENCE) and free

    def end(self) -> None:
        """The watching is over: nobody has the turn any more."""
        self.thread = self.inside = 0

    def _is_free(self) -> bool:
        """Whether the thread that has the turn has not trained, or has ended."""
        return not self._closed and (not self.trained or not _lives(self.thread))

    def _has_left(self, observer: Observer, *, steps: bool) -> bool:
        """Whether the thread that has the turn is done with this optimizer, as far as anybody can see."""
        session = self._session
        busy = session.in_backward or any(other.steps_now for other in session.observers.values())
        return bool(observer.owner) and not busy and self._is_at_rest(observer, steps=steps)

    @staticmethod
    def _is_at_rest(observer: Observer, *, steps: bool) -> bool:
        """Whether a cycle is over, or nobody knows; a step is no beginning of one."""
        return not observer.awake or (observer.state.gradient in _AT_REST and not steps)

    def _take(self, me: int, *, trains: bool) -> bool:
        """Give the turn to this thread, when the former one has left the watcher; one that trains has to be sure."""
        if not self._passing.acquire(timeout=_PATIENCE if trains else 0):
            return trains and self._give_up()
        try:
            former, self.thread = self.thread, me
            if not self._alone(me):
                self.thread = former
                return trains and self._give_up()
            self.trained = trains
            self._session.passed_on()
            return True
        finally:
            self._passing.release()

    def _part(self, observers: list[Observer], ids: set[int]) -> None:
        """These, and models that hold what else another thread works on, are not looked at any more."""
        with self._passing:
            former, self.thread = self.thread, 0  # nobody comes in
            if not self._alone(threading.get_ident()):
                self._give_up()
                return
            for observer in observers:
                ids = ids | observer.ids()
                self._session.let_go(observer, SHARED if observer.owner else CROWD)
            self._session.models.drop(ids)
            self.thread = former

    def _give_up(self) -> bool:
        """A thread does not leave the watcher, which waits for something, and another cannot wait: listen to none."""
        self._closed = True
        self.thread = 0
        self._session.unseen.append("two threads waited for one another, so nothing was looked at from then on")
        return False


def _is_of_python(thread: int) -> bool:
    """Whether a thread was started by Python, and not by torch."""
    return any(other.ident == thread and type(other).__name__ != "_DummyThread" for other in threading.enumerate())


def _lives(thread: int) -> bool:
    """Whether a thread that Python has started has not ended."""
    return any(other.ident == thread for other in threading.enumerate())
