"""The machine of `gradcheck_lint.laws.cycle` for one optimizer, fed by what happens to its gradients while it is awake.

What the machine calls a breach is believed only if the tensors themselves agree (`verdicts`): a program may write or
clear gradients in ways that nobody can hook.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradcheck_lint.laws import cycle
from gradcheck_lint.runtime.gradients import Gradients
from gradcheck_lint.runtime.record import Event
from gradcheck_lint.runtime.sightings.order import Tally
from gradcheck_lint.runtime.trails import trail
from gradcheck_lint.runtime.window import Window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from gradcheck_lint.runtime.gradients import Touched
    from gradcheck_lint.runtime.observer import Observer
    from gradcheck_lint.runtime.sightings.order import Closure
    from gradcheck_lint.runtime.sites import Mark
    from gradcheck_lint.runtime.trails import Trail

    Line = tuple[str, int, int]  # the kind of event, and where


class Machine:
    """The state of the gradients, the window of backwards, and which lines cause what."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._session = observer.session
        self._watched = observer.watched
        self._subject = observer.subject
        self.state = cycle.State()
        self.window = Window()
        self.gradients = Gradients()
        self.latest: dict[str, Event] = {}  # by kind
        self.trails: dict[int, Trail] = {}  # by the order of the event
        self.closely = False  # something is suspected: also look at where calls come from, and at gradients
        self.began = ""  # what the gradients were when the first step came
        self.unrecorded = 0  # the order of the latest step of which no round was recorded
        self.skipped = 0  # steps that a scaler left out
        self._lines: dict[Line, int] = {}  # how often each line has caused each kind of event
        self._odd_lines: dict[Line, int] = {}  # how often something was wrong with that
        self._idle_zeros: set[Line] = set()  # lines that have cleared what nobody misses
        self._cleared = False  # the gradients were cleared since the last step
        self._looked = False  # whether there were gradients before anything was done with them

    # The law

    def event(self, kind: str, how: str = "", mark: Mark | None = None) -> str | None:
        """Something happens; the breach that it is, if any."""
        return self._feed(Event(kind, self._session.tick(), self._watched.steps, how, mark))

    def _feed(self, event: Event) -> str | None:
        """Feed the machine; the breach that it names, if any."""
        kind, mark = event.kind, event.mark
        self.state, breach = cycle.advance(self.state, kind, event, event.how)
        self.latest[kind] = event
        if mark is not None:
            line = (kind, id(mark.code), mark.last)
            self._lines[line] = self._lines.get(line, 0) + 1
        if self.closely:
            self.trails[event.order] = trail()
        self._session.remember(self._observer, event)
        return breach

    def tally(self, kind: str, mark: Mark | None) -> Tally:
        """Count that something was wrong with an event of this line: how often it was, and how often the line ran."""
        if mark is None:
            return Tally()
        line = (kind, id(mark.code), mark.last)
        self._odd_lines[line] = self._odd_lines.get(line, 0) + 1
        return Tally(self._odd_lines[line], self._lines.get(line, 1))

    def odd(self, kind: str) -> int:
        """How often something was wrong with events of this kind."""
        return sum(times for line, times in self._odd_lines.items() if line[0] == kind)

    def mark_of(self, kind: str) -> Mark | None:
        event = self.latest.get(kind)
        return event.mark if event is not None else None

    def made(self, made: object = None) -> Mark | None:
        """Where a backward ran, as the machine remembers it; else the first of the window."""
        event = made if isinstance(made, Event) else self.window.first
        return event.mark if event is not None else None

    def unknown(self) -> None:
        """Something that cannot be seen has its hand in the gradients."""
        self.state = self.state._replace(gradient=cycle.OUTSIDE, scale=cycle.ENGINE)

    # What happens

    def look_first(self) -> None:
        """Something is done with the gradients for the first time: they may have been there before.

        This is not looked at when the watching begins, for it may be another thread that trains.
        """
        if self._looked:
            return
        self._looked = True
        if self.state.gradient == cycle.FRESH and self._subject.has_gradients():
            self.unknown()

    def zeroed(self, mark: Mark | None) -> None:
        """The gradients of this optimizer were cleared."""
        self.look_first()
        self._watched.zeros += 1
        if self._watched.zeros == 2 and not self._watched.name:
            self._session.roster.look_around(self._observer)
        self._cleared = True
        self.gradients.cleared()
        breach = self.event("zero", mark=mark)
        self.window.old = False
        line = ("zero", id(mark.code), mark.last) if mark is not None else None
        if breach == cycle.DISCARDED and self.window:
            regular = line in self._idle_zeros
            self.window.drop(mark, usual=regular)
            self._observer.verdicts.discarded(mark, regular=regular)
            self._observer.attention.look_closely()
        elif line is not None:
            self._idle_zeros.add(line)
        self._new_window()

    def _new_window(self) -> None:
        self.window.clear()
        self.gradients.used()

    def backward_begins(self) -> None:
        """Backward is about to run; it may touch what this optimizer holds."""
        self.look_first()
        used = self.state.gradient == cycle.SPENT and not self._cleared and not self._observer.opaque
        self.gradients.backward_begins(self._subject.parameters(), used=used)

    def backward_ended(self, event: Event, order: Sequence[Tensor]) -> bool:
        """Backward is over; whether it has put gradients into parameters of this optimizer. order: see Gradients."""
        touched = self.gradients.backward_ended(self._subject.parameters(), order)
        if touched is None:
            return False
        self._watched.backwards += 1
        self._feed_backward(event, touched)
        return True

    def _feed_backward(self, event: Event, touched: Touched) -> None:
        window = self.window
        if self.state.gradient == cycle.SPENT:
            if touched.empty or (touched.zero and not touched.old):
                # cleared in a way that cannot be hooked, as by `p.grad = None`
                self._feed(Event("zero", self._session.tick(), self._watched.steps))
                self._watched.zeros += 1
                window.clear()
            else:
                window.old = touched.old
        elif touched.dropped and window:
            window.drop(None, usual=True)
            window.clear()
        self.state, _ = cycle.advance(self.state, "backward", event, event.how)
        self.latest["backward"] = event
        window.add(event)
        if self.closely or window.old:
            self.gradients.probe(self._subject.parameters())
        self._session.remember(self._observer, event._replace(step=self._watched.steps))

    def skips(self) -> None:
        """A scaler has left the step out."""
        self.state, _ = cycle.advance(self.state, "step", self.latest.get("step"), "scaler")
        self.window.clear()
        self.skipped += 1

    def scheduled(self, scheduler: Any, mark: Mark | None) -> None:
        """The schedule of this optimizer moves."""
        early = self.event("schedule", mark=mark) is not None
        if not hasattr(scheduler, "mode_worse"):  # ReduceLROnPlateau starts from a number
            self._observer.verdicts.schedule(mark, early=early)

    def uses(self, mark: Mark | None, closure: Closure | None = None) -> None:
        """The optimizer is about to read the gradients."""
        observer, session = self._observer, self._session
        session.before_update(observer, mark)
        before = self.state
        breach = self.event("step", "scaler" if observer.scaler_stepping else "", mark)
        if breach is None and before.gradient in (cycle.FIRST, cycle.READY) and self._erased_by_hand():
            breach = cycle.ERASED_STEP
        if breach is not None and not observer.opaque:
            observer.verdicts.judge(breach, before, mark, closure)
        self.window.used()
        if closure is None:
            self._end_round(mark)
        session.used(observer, mark)
        self._new_window()
        self.window.old = self._cleared = False

    def _end_round(self, mark: Mark | None) -> None:
        sure = self.closely and self.window.dropped and self.untouched()
        self.window.end_round(mark, self.trails.get(self.latest["step"].order, ()), untouched=sure)
        if not self.closely and self.trails:
            self.trails.clear()

    def step_ends(self) -> None:
        """The update is done."""
        self._cleared = False

    # The tensors themselves

    def touch(self) -> None:
        """The gradients are changed as they should be: clipped or unscaled."""
        if self.closely or self.window.old:
            self.gradients.touch(self._subject.parameters())

    def untouched(self) -> bool:
        """Whether the gradients are what backward made of them. Reads values, so only on suspicion."""
        return self.gradients.untouched(self._subject.parameters())

    def finite(self) -> bool:
        """Whether the gradients hold numbers only. Reads values, so only on suspicion."""
        return self.gradients.finite(self._subject.parameters())

    def written(self) -> bool:
        """Whether somebody has put gradients there that no backward was seen to make."""
        return self.gradients.written(self._subject.parameters())

    def _erased_by_hand(self) -> bool:
        """Whether backward has made gradients and none is there any more; not where others have hooks of their own."""
        if len(getattr(self._subject.optimizer, "_optimizer_step_pre_hooks", ())) > 1:
            return False
        return self.gradients.erased(self._subject.parameters())

    # Asleep and awake

    def step_over(self) -> None:
        """A step has ended, and the next one is watched too."""
        self.gradients.remember(self._subject.parameters())

    def sleep(self) -> None:
        """What comes is not heard."""
        self.gradients.unhook()
        self.gradients.forget()
        self.window.forget()
        self._cleared = False
        self.closely = False
        self.trails.clear()

    def wake(self) -> None:
        """A step has just ended, and from now on all is heard."""
        self.step_over()
        if self.state.gradient != cycle.OUTSIDE:  # somebody writes them by hand
            spent = self._subject.has_gradients()
            self.state = cycle.State(cycle.SPENT if spent else cycle.CLEAN, stepped=True)
        self.window.old = False
        self.unrecorded = self._session.tick()

    def let_go(self) -> None:
        """Nothing of it is looked at any more."""
        self.unknown()
        self.window.clear()
        self.gradients.forget()
