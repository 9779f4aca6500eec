"""Which thread a session listens to: the one that trains. What other threads do is at most counted.

A gradient that another thread's backward may be writing must not even be looked at: torch writes it without Python's
lock, and a reader in between can end the process. So

- one thread has the turn, and only in it the watcher runs (`enter`). At first that is the one that began to watch,
  until one clears or steps a watched optimizer, or goes backward to its parameters: that one has it from then on;
- backward in another thread is asked, before it runs, whether it reaches what is watched (`backward`). If it does, the
  turn passes, or the session lets go of what both work on: it is not looked at any more, and the record says so;
- the turn passes where nobody can be at work: the thread that had it has ended, has never trained, or has left an
  optimizer between two cycles, and another goes on with that; and never in the middle of a backward that may reach what
  is watched, for the thread that has the turn is not asked;
- what comes to be watched must be in no backward that began before, of which nobody was asked (`clear`);
- the threads that autograd starts for a backward work for the thread that called it, which waits for them.

Whatever is decided here is decided under one lock together with the look at what it depends on. Two threads that tell
each other something do it in an order that leaves no gap: one says that it goes backward before it asks who has the
turn, the other says that it has the turn before it looks who goes backward.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from gradcheck_lint.laws import cycle
from gradcheck_lint.runtime import patches

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from gradcheck_lint.runtime.observer import Observer
    from gradcheck_lint.runtime.session import Session

CROWD = "it is trained in one thread while another, which is watched, trains"
SHARED = "several threads work on its parameters at the same time"
UNSURE = "another thread may have been at work on it when its watching began"
_PATIENCE = 1.0  # seconds for which a thread waits until another has done something that may wait for this one in turn
_LONG = 60.0  # and until it has left the watcher, while that runs no code of the program's
_AT_REST = frozenset({cycle.FRESH, cycle.CLEAN, cycle.SPENT, cycle.OUTSIDE})  # between two cycles, or not judged


class Turn:
    """Who has it, and how it passes on."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.thread = self.opener = threading.get_ident()  # that has it, 0 when the watching is over; that began it
        self.trained = False  # whether that thread has trained what is watched
        self.inside = 0  # the thread in which the watcher runs at this moment
        self.telling = False  # it runs code of the program's there, which may wait for other threads
        # Either may be taken again by what comes in between in the same thread: a signal, a collection of garbage.
        self._passing = threading.RLock()  # around all that decides who is listened to
        self._setting = threading.RLock()  # around `thread` and `inside`
        self._losing = 0  # the thread that may be about to lose the turn, and has it back in a moment if it does not
        self._closed = False
        self._asking: set[int] = set()  # the threads in `backward`
        self._waiting: set[int] = set()  # those of them that wait for the end of the watching

    # The watcher runs in one thread

    def enter(self, me: int) -> bool:
        """Whether the watcher may run in this thread now; `leave` must follow."""
        if me != self.thread and not self.has(me) and not self.deputy(me):
            return False
        with self._setting:  # autograd may have several threads at work, one for each device
            if not self.inside and (me == self.thread or self.deputy(me)):
                self.inside = me
                return True
        return self._losing == me and self.enter(me)

    def leave(self) -> None:
        """The watcher is done for now."""
        self.inside = 0

    def has(self, me: int) -> bool:
        """Whether this thread has the turn; it waits where that is just being decided."""
        if me == self.thread or self.inside == me:
            return me == self.thread
        if self._losing == me and self._passing.acquire(timeout=_LONG):
            self._passing.release()
        return me == self.thread

    def deputy(self, me: int) -> bool:
        """Whether this is a thread of autograd's that works for the one that has the turn."""
        return bool(self._session.backward.running) and not self._closed and not _is_of_python(me)

    def lost(self) -> bool:
        """Whether nobody is listened to any more, not even who is in the watcher at this moment."""
        return self._closed and not self.thread

    def _alone(self, me: int) -> bool:
        """Wait until no other thread is in the watcher; a thread that waits there for us in turn is not waited for."""
        begun = time.monotonic()
        while self.inside not in (0, me):
            if time.monotonic() - begun > (_PATIENCE if self.telling else _LONG):
                return False
            time.sleep(0.0002)
        return True

    # How it passes on

    def begins(self, me: int) -> bool:
        """Another thread makes a call that may be the beginning of training; whether it has the turn now.

        Only where whatever comes is watched, and not a thread that has a watch of its own.
        """
        if self.has(me) or self.deputy(me):
            return True
        if not self.follows(me) or not self._is_free() or not self._passing.acquire(blocking=False):
            return False
        try:
            return me == self.thread or (self._is_free() and self._take(me, trains=False))
        finally:
            self._passing.release()

    def follows(self, me: int) -> bool:
        """Whether what another thread builds is a concern of this session's."""
        others = (session for session in list(patches.ACTIVE) if session is not self._session)
        return self._session.options.everything and not any(session.turn.opener == me for session in others)

    def works_on(self, me: int, observer: Observer, *, steps: bool) -> bool:
        """A thread clears or steps a watched optimizer; whether that is listened to.

        Where it has the turn, another may have worked on this optimizer before.
        """
        if self.deputy(me):
            return True
        with self._decides() as decides:
            if not decides or self._closed:
                return me == self.thread
            if me == self.thread or self._is_free():
                free = observer.owner in (0, me) or not _lives(observer.owner)
                done = free or self._is_at_rest(observer, steps=steps)
            else:
                done = self._has_left(observer, steps=steps)
            if not done or (me != self.thread and not self._take(me, trains=True)):
                self._part([observer], set())
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
        self._asking.add(me)
        try:
            try:
                ids = patches.counts().reaches(roots)
            except Exception:  # nobody knows what it will do
                ids = None
            if not self._closed and not self._concerned(ids):
                return False
            with self._decides() as decides:
                if decides and not self._closed:
                    return me == self.thread or self._reached(me, ids)
            if self._concerned(ids):
                self._waiting.add(me)
                self._alone(me)
            return False
        finally:
            self._waiting.discard(me)
            self._asking.discard(me)

    def _concerned(self, ids: set[int] | None) -> bool:
        """Whether the session may look at one of these; None for all that there is."""
        known = self._known()
        return ids is None or known is None or not ids.isdisjoint(known)

    def _known(self) -> set[int] | None:
        """What the session may look at; None if it cannot be told, for another thread is changing that."""
        for _ in range(5):
            with suppress(RuntimeError):  # a dict has changed while it was gone through
                return self._session.known()
        return None

    def _reached(self, me: int, ids: set[int] | None) -> bool:
        """Another thread goes backward to what is watched; whether it takes the turn."""
        observers = list(self._session.observers.values())
        reached = [o for o in observers if ids is None or not ids.isdisjoint(o.ids())]
        if reached and self._is_free():
            lost = []
        else:
            lost = [observer for observer in reached if not self._has_left(observer, steps=False)]
        if lost or not reached:
            self._part(lost, ids)
        if len(lost) == len(reached):
            return False
        if not self._take(me, trains=True):
            self._part([observer for observer in reached if observer not in lost], ids)
            return False
        return True

    def clear(self, ids: Collection[int], patience: float = _PATIENCE) -> bool:
        """Whether no other thread can be in a backward that reaches these, which come to be looked at.

        Waits for those that nobody was asked about to end. They must be known to the session before: whoever begins to
        go backward after that is asked.
        """
        return patches.quiet(threading.get_ident(), ids, patience, self._asking, wait=False)

    def close(self, me: int) -> bool:
        """The watching ends in this thread; whether what is watched may still be looked at."""
        with self._decides() as decides:
            self._closed = True
            self._give(me)
            patches.look_again()
            free = self._alone(me)
            self.inside = me
        return decides and free and patches.quiet(me, self._known(), _PATIENCE, self._waiting, wait=True)

    def end(self) -> None:
        """The watching is over: nobody has the turn any more."""
        with self._setting:
            self.thread = self.inside = 0

    @contextmanager
    def _decides(self) -> Iterator[bool]:
        """Decide who is listened to; False where another thread does and does not come to an end."""
        decides = self._passing.acquire(timeout=2 * _LONG)
        if not decides:
            self._give_up()
        try:
            yield decides
        finally:
            if decides:
                self._passing.release()

    def in_a_child(self) -> None:
        """The process was forked: only this thread is left, and others may have been anywhere."""
        self._passing, self._setting = threading.RLock(), threading.RLock()
        self._losing = 0
        self._asking, self._waiting = set(), set()
        if self.inside != threading.get_ident():
            self.inside, self.telling = 0, False

    def _is_free(self) -> bool:
        """Whether the thread that has the turn has not trained, or has ended."""
        return not self._closed and (not self.trained or not _lives(self.thread))

    def _has_left(self, observer: Observer, *, steps: bool) -> bool:
        """Whether the thread that has the turn is done with this optimizer, as far as anybody can see."""
        session = self._session
        busy = session.backward.running or any(other.stepping.running for other in session.observers.values())
        return bool(observer.owner) and not busy and self._is_at_rest(observer, steps=steps)

    @staticmethod
    def _is_at_rest(observer: Observer, *, steps: bool) -> bool:
        """Whether a cycle is over, or nobody knows; a step is no beginning of one."""
        return not observer.awake or (observer.machine.state.gradient in _AT_REST and not steps)

    def _give(self, thread: int) -> int:
        """Who has the turn from now on; nobody else comes in. Who had it before."""
        with self._setting:
            former, self.thread = self.thread, thread
        return former

    def _take(self, me: int, *, trains: bool) -> bool:
        """Give the turn to this thread, if the former one leaves the watcher and is in no backward."""
        self._losing = self.thread
        former = self._give(me)
        patches.look_again()  # from now on the former is asked before it goes backward
        try:
            if not self._alone(me):
                self._give(former)
                return trains and self._give_up()
            if patches.may_write(former, self._known()):
                self._give(former)
                return False
            self.trained = trains
            self._session.passed_on()
            return True
        finally:
            self._losing = 0

    def _part(self, observers: list[Observer], ids: set[int] | None) -> None:
        """These, and whatever else another thread works on, are not looked at any more; None for all there is."""
        self._losing = self.thread
        former = self._give(0)
        try:
            if not self._alone(threading.get_ident()):
                self._give_up()
                return
            session = self._session
            for observer in observers:
                ids = ids | observer.ids() if ids is not None else None
                session.roster.let_go(observer, SHARED if observer.owner else CROWD)
            session.forsake(ids)
            if not self._closed:
                self._give(former)
        except Exception:
            self._give_up("it could not be told what several threads work on")
            raise
        finally:
            self._losing = 0

    def _give_up(self, why: str = "two threads waited for one another") -> bool:
        """A thread does not leave the watcher, which waits for something, and another cannot wait: listen to none."""
        self._closed = True
        self._give(0)
        self._session.unseen.append(f"{why}, so nothing was looked at from then on")
        return False


def _is_of_python(thread: int) -> bool:
    """Whether a thread was started by Python, and not by torch."""
    return any(other.ident == thread and type(other).__name__ != "_DummyThread" for other in threading.enumerate())


def _lives(thread: int) -> bool:
    """Whether a thread that Python has started has not ended."""
    return any(other.ident == thread for other in threading.enumerate())
