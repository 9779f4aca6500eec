"""Watching one optimizer: what happens to its gradients, fed to the machine of `gradcheck_lint.cycle`.

Which steps are checked says `sampling`. The observer is awake at those that are checked thoroughly. Else it sleeps:
steps, backwards and zeroings are merely counted, and if their numbers do not fit what was seen before it wakes for a
while. At a step that is checked, but not thoroughly, it takes a glance when the step is over.

What the machine calls a breach is believed only if the tensors themselves agree: a program may write or clear gradients
in ways that nobody can hook.
"""

from __future__ import annotations

import sys
import weakref
from collections import deque
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING, Any, NamedTuple

from gradcheck_lint import cycle
from gradcheck_lint.runtime import patches, sites, stores
from gradcheck_lint.runtime.gradients import Gradients, Touched
from gradcheck_lint.runtime.names import attributes
from gradcheck_lint.runtime.record import Event, Moment, Parameter, Watched
from gradcheck_lint.runtime.sampling import Sampling
from gradcheck_lint.runtime.sighting import Scene
from gradcheck_lint.runtime.sightings.order import (
    CallMissing,
    Closure,
    ClosureCalled,
    ClosureMissing,
    ClosureWithoutLoss,
    Discarded,
    EarlySchedule,
    EmptyStep,
    ErasedStep,
    PlainScalerStep,
    ScaledStep,
    StaleStep,
    Tally,
)
from gradcheck_lint.runtime.sites import resolve
from gradcheck_lint.runtime.trails import outside, same_rounds, trail

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import CodeType, FrameType

    from torch import Tensor
    from torch.optim import Optimizer

    from gradcheck_lint.runtime.session import Session
    from gradcheck_lint.runtime.trails import Trail

ROUNDS = 24  # of the latest steps, what led to each
_LOOKS = 4  # times that it is asked whether gradients will be cleared later
_LACKS = {cycle.STALE_STEP: "zero_grad", cycle.EMPTY_STEP: "backward"}  # what was not called, where something breaks
_ATTEND = 5  # how often something odd on a step between samples makes the observer wake


class Round(NamedTuple):
    """What led to one step."""

    mark: sites.Mark | None  # of the step
    trail: Trail
    window: tuple[Event, ...]  # the backwards whose gradients it used
    dropped: tuple[Dropped, ...]  # those whose gradients were cleared before
    clips: tuple[sites.Mark | None, ...]
    untouched: bool  # whether the gradients were still what backward had made of them, where that was looked at


class Dropped(NamedTuple):
    """Gradients that were cleared before any step had used them."""

    window: tuple[Event, ...]
    mark: sites.Mark | None  # of the clearing
    usual: bool  # whether that line has also cleared when there was nothing to lose


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


class Observer:
    """One optimizer under watch. `attach` hooks it, `detach` leaves it as it was."""

    def __init__(self, session: Session, optimizer: Optimizer, watched: Watched, built: sites.Mark | None) -> None:
        self.session = session
        self.watched = watched
        self.built = built
        self.state = cycle.State()
        self.awake = True  # this step is checked thoroughly
        self.glances = False  # asleep, but this step is looked at when it is over
        self.sampling = Sampling(session)
        self.gradients = Gradients()
        self.window: list[Event] = []  # backwards since the gradients were last used or cleared
        self.windows: deque[int] = deque(maxlen=16)  # how many backwards each of the latest steps used
        self.latest: dict[str, Event] = {}  # by kind
        self.names: dict[int, str] = {}
        self.opaque = ""  # why breaches of this optimizer cannot be told, empty if they can
        self.scaler_stepping = False
        self.idle: tuple[sites.Mark | None, Tally] | None = None  # a step before any backward
        self.skipped = 0  # steps that a scaler left out
        self.broken = False  # it is known why its steps find no gradients: the model has other tensors now, say
        self.rounds: deque[Round] = deque(maxlen=ROUNDS)
        self.closely = False  # something is suspected: also look at where calls come from, and at gradients
        self.began = ""  # what the gradients were when the first step came
        self._dropped: list[Dropped] = []
        self._clips: list[sites.Mark | None] = []
        self._lines: dict[tuple[str, int, int], int] = {}  # how often each line has caused each kind of event
        self._odd_lines: dict[tuple[str, int, int], int] = {}  # how often something was wrong with that
        self._idle_zeros: set[tuple[str, int, int]] = set()  # lines that have cleared what nobody misses
        self.trails: dict[int, Trail] = {}  # by the order of the event
        self._instead: tuple[str, sites.Mark | None] = "", None  # the optimizer that is cleared instead of this one
        self._early: dict[tuple[int, int], int] = {}  # lines that moved the schedule before the first step
        self._ref = weakref.ref(optimizer)
        self._before: Any = None  # the handles of the hooks on the step
        self._after: Any = None
        self._old_window = False  # the window began on gradients that nobody had cleared
        self._inside = 0  # how many steps of this optimizer are running, one inside the other
        self._nested = 1  # the most that there were, for a subclass that calls `super().step()`
        self._frame: tuple[int, CodeType | None] = (0, None)  # that of the outermost, which may have raised meanwhile
        self.owner = 0  # the thread that has last used, cleared or made its gradients; 0 if none has yet
        self._stepper = 0  # the thread of the step that was last listened to
        self._inherits = _calls_super(type(optimizer))
        self._moving: tuple[int, int] | None = None  # the place of a weight that it should change, and its version
        self.pauses = False  # some of its steps do nothing, as one that gathers gradients
        self.unrecorded = 0  # the order of the latest step of which no round was recorded
        self._slept = self._night = 0  # how often a step ended since it fell asleep, and after how many it wakes
        # how many there had been, of all optimizers, when a step ended the last time that this was asked
        self._counts = patches.counts()  # of the thread in which it steps
        self._zeros, self._backwards = self._counts.zeros, self._counts.backwards
        self._habit = _Habit()
        self._in_closure = False
        self._closure_backwards = self._closure_zeros = 0
        self._attended = 0
        self._cleared = False  # the gradients were cleared since the last step
        self._rewrites = False  # the program puts something else in the place of what backward has added up
        self._fed = False  # there were gradients when it fell asleep, after a step
        self._looked = False  # whether there were gradients before anything was done with them
        self._away = False  # other threads work on it: it is counted and no more
        self._gone = False  # the watching is over

    # What is watched

    @property
    def optimizer(self) -> Optimizer | None:
        return self._ref()

    @property
    def label(self) -> str:
        return self.watched.label

    def parameters(self) -> list[Tensor]:
        """The tensors that the optimizer holds now, in its order."""
        optimizer = self._ref()
        if optimizer is None:
            return []
        return [parameter for group in optimizer.param_groups for parameter in group["params"]]

    def groups(self) -> list[dict[str, Any]]:
        optimizer = self._ref()
        return optimizer.param_groups if optimizer is not None else []

    def ids(self) -> set[int]:
        return {id(parameter) for parameter in self.parameters()}

    @property
    def received(self) -> dict[int, None]:
        """The ids of the parameters that ever got a gradient, in the order of the first time."""
        return self.gradients.received

    @property
    def reads(self) -> bool:
        """Whether values are read at this step."""
        return self.sampling.reads(self.watched.steps)

    def attach(self) -> None:
        optimizer = self._ref()
        if optimizer is None:
            return
        self._before = optimizer.register_step_pre_hook(self._before_step)
        self._after = optimizer.register_step_post_hook(self._after_step)

    def _look_first(self) -> None:
        """Something is done with the gradients for the first time: they may have been there before.

        This is not looked at when the watching begins, for it may be another thread that trains.
        """
        if self._looked:
            return
        self._looked = True
        if self.state.gradient == cycle.FRESH and self._has_gradients():
            self.state = self.state._replace(gradient=cycle.OUTSIDE, scale=cycle.ENGINE)

    def detach(self) -> None:
        self._gone = True
        if not self.awake:
            self._settle()
        for handle in (self._before, self._after):
            if handle is not None:
                self._take_out(handle)
        if not self._away:
            self.gradients.unhook()
        self.gradients.forget()

    def _take_out(self, handle: Any) -> None:
        """Remove a hook; unless another thread may be going through the hooks, which torch would then refuse.

        Then something that does nothing is put in its place, which nobody who goes through them notices.
        """
        hooks = handle.hooks_dict_ref()
        if (self.owner == get_ident() and not self._away) or not patches.others_train():
            handle.remove()
        elif hooks is not None and handle.id in hooks:
            hooks[handle.id] = _nothing

    def leave_alone(self) -> None:
        """Another thread may be at work on its gradients: they are not looked at any more, nor are hooks in them."""
        self._away = True

    def let_go(self, why: str) -> None:
        """Other threads work on it: its gradients are not looked at any more, and its steps are counted."""
        self.opaque = why
        self.state = self.state._replace(gradient=cycle.OUTSIDE, scale=cycle.ENGINE)
        self._away = True
        self.awake = self.glances = False
        self._slept, self._inside = 0, 0
        self.window = []
        self.gradients.forget()

    def passed_on(self) -> None:
        """Another thread is listened to from now on, whatever this one was in the middle of."""
        self._inside = 0

    @property
    def steps_now(self) -> bool:
        """Whether a step of it is running."""
        return self._inside > 0

    def renew(self) -> None:
        """The optimizer holds other tensors than before."""
        self.names.clear()
        self.gradients.forget()
        self.rouse()

    def _go_on(self) -> None:
        """A step is over that was looked at, or before one that will be: what is done at the next one."""
        steps = self.watched.steps
        coming = self.sampling.next(steps)
        if coming > steps + 1:
            self._sleep(self.sampling.rest(steps) - 1 - steps)
        elif not self.sampling.thorough(coming):
            self._sleep(1, glances=True)
        elif self.awake:
            self.gradients.remember(self.parameters())
        else:
            self._wake()

    def _has_gradients(self) -> bool:
        return any(parameter.grad is not None for parameter in self.parameters())

    def _sleep(self, steps: int, *, glances: bool = False) -> None:
        """Until so many more are over."""
        self._slept, self._night = 0, steps * self._nested
        if self.awake:
            self._fall_asleep()
        elif glances is self.glances:
            return
        elif glances:
            self.sampling.woke()
        self.glances = glances
        self.session.listen()

    def _fall_asleep(self) -> None:
        self.awake = False
        self._fed = self._has_gradients()
        self.gradients.unhook()
        self.gradients.forget()
        self.window = []
        self._cleared = False
        self.closely = False
        self.trails.clear()
        self._dropped, self._clips = [], []
        self._before.remove()

    def _wake(self) -> None:
        """A step has just ended: whatever gradients there are, it has used them."""
        if not self.glances:
            self.sampling.woke()
        self.awake, self.glances = True, False
        optimizer = self._ref()
        if optimizer is not None:
            self._before = optimizer.register_step_pre_hook(self._before_step)
        self.gradients.remember(self.parameters())
        if self.state.gradient != cycle.OUTSIDE:  # somebody writes them by hand
            self.state = cycle.State(cycle.SPENT if self._has_gradients() else cycle.CLEAN, stepped=True)
        self._old_window = False
        self.unrecorded = self.session.tick()
        self.session.listen()

    def _morning(self) -> None:
        """A step has just ended that was the last of a night, or at which a glance is due."""
        self._settle()
        if self.glances:
            self._glance()
        self._go_on()

    def _glance(self) -> None:
        """A step is over; its gradients are still there."""
        self.watched.checked += 1
        self.session.ask("glance", self, self.mark_of("step"))
        if self._fed and not self.opaque and not self._has_gradients():
            self.suspect()

    @property
    def steps(self) -> int:
        """How many steps it has made, with those that are only counted so far."""
        return self.watched.steps + self._slept // self._nested

    def _settle(self) -> None:
        """Bring the numbers up to date that are only counted while asleep."""
        steps, self._slept = self._slept // self._nested, 0
        self.watched.steps += steps
        counted = None if self._away else self._counted()
        if counted is None:
            return
        zeros, backwards = counted
        if self._habit.fits(steps, zeros, backwards) or self._attended >= _ATTEND:
            return
        self._attended += 1
        self.sampling.attend(self.watched.steps + 3)
        more, lost = self._habit.beyond(steps, zeros, backwards)
        if 0 < more < steps and 0 < lost < (usual := self._usual()) * more:
            scene = self.scene(self.mark_of("zero"))
            size = lost // more or 1
            self.session.take(Discarded(scene, window=size, usual=usual, regular=False, finite=True, made=None))

    def _counted(self) -> tuple[int, int] | None:
        """How many zeroings and backwards there were since this was last asked; None if it was in another thread."""
        counts = patches.counts()
        if counts is not self._counts:
            self._counts, self._zeros, self._backwards = counts, counts.zeros, counts.backwards
            return None
        zeros, backwards = counts.zeros - self._zeros, counts.backwards - self._backwards
        self._zeros, self._backwards = counts.zeros, counts.backwards
        return zeros, backwards

    # What happens

    def event(self, kind: str, how: str = "", mark: sites.Mark | None = None) -> str | None:
        """Something happens; the breach that it is, if any."""
        return self._feed(Event(kind, self.session.tick(), self.watched.steps, how, mark))

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
        self.session.remember(self, event)
        return breach

    def tally(self, kind: str, mark: sites.Mark | None) -> Tally:
        """Count that something was wrong with an event of this line: how often it was, and how often the line ran."""
        if mark is None:
            return Tally()
        line = (kind, id(mark.code), mark.last)
        self._odd_lines[line] = self._odd_lines.get(line, 0) + 1
        return Tally(self._odd_lines[line], self._lines.get(line, 1))

    def on_zero(self, mark: sites.Mark | None) -> None:
        """The gradients of this optimizer were cleared."""
        self._look_first()
        self.watched.zeros += 1
        if self.watched.zeros == 2 and not self.watched.name:
            self.session.look_around(self)
        self._cleared = True
        self.gradients.cleared()
        breach = self.event("zero", mark=mark)
        window, usual = len(self.window), self._usual()
        self._old_window = False
        line = ("zero", id(mark.code), mark.last) if mark is not None else None
        if breach == cycle.DISCARDED and self.window:
            regular = line in self._idle_zeros
            self._dropped.append(Dropped(tuple(self.window), mark, regular))
            finite = True
            if 0 < window < usual:  # a part of a window, if it is made by the same line as the whole ones
                lines = {event.mark for event in self.rounds[-1].window} if self.rounds else set()
                finite = all(event.mark in lines for event in self.window) and self.finite()
            scene, made = self.scene(mark), resolve(self._marks())
            self.session.take(Discarded(scene, window=window, usual=usual, regular=regular, finite=finite, made=made))
            self.look_closely()
        elif line is not None:
            self._idle_zeros.add(line)
        self._new_window()

    def _new_window(self) -> None:
        self.window = []
        self.gradients.used()

    def look_closely(self) -> None:
        """Something is suspected: the next rounds are recorded with all that can be known of them."""
        if self.sampling.attending(self.watched.steps + 1):
            self.closely = True

    def suspect(self) -> None:
        """The same, and if the next steps would not be checked they are now: a few times in a run."""
        if self._attended < _ATTEND and not self.sampling.attending(self.steps + 1):
            self._attended += 1
            self.attend()
        self.look_closely()

    def finite(self) -> bool:
        """Whether the gradients hold numbers only. Reads values, so only on suspicion."""
        return self.gradients.finite(self.parameters())

    def backward_begins(self) -> None:
        """Backward is about to run; it may touch what this optimizer holds."""
        if self._inside and not self._in_closure and self._runs(sys._getframe(1)):
            self.opaque = "it goes backward in its own step"
        self._look_first()
        used = self.state.gradient == cycle.SPENT and not self._cleared and not self.opaque
        self.gradients.backward_begins(self.parameters(), used=used)

    def backward_ended(self, event: Event, order: Sequence[Tensor]) -> bool:
        """Backward is over; whether it has put gradients into parameters of this optimizer. order: see Gradients."""
        touched = self.gradients.backward_ended(self.parameters(), order)
        if touched is None:
            return False
        self.watched.backwards += 1
        self._feed_backward(event, touched)
        return True

    def _feed_backward(self, event: Event, touched: Touched) -> None:
        if self.state.gradient == cycle.SPENT:
            if touched.empty or (touched.zero and not touched.old):
                # cleared in a way that cannot be hooked, as by `p.grad = None`
                self._feed(Event("zero", self.session.tick(), self.watched.steps))
                self.watched.zeros += 1
                self.window = []
            else:
                self._old_window = touched.old
        elif touched.dropped and self.window:
            self._dropped.append(Dropped(tuple(self.window), None, True))
            self.window = []
        self.state, _ = cycle.advance(self.state, "backward", event, event.how)
        self.latest["backward"] = event
        self.window.append(event)
        if self.closely or self._old_window:
            self.gradients.probe(self.parameters())
        self.session.remember(self, event._replace(step=self.watched.steps))

    def touch(self) -> None:
        """The gradients are changed as they should be: clipped or unscaled."""
        if self.closely or self._old_window:
            self.gradients.touch(self.parameters())

    def untouched(self) -> bool:
        """Whether the gradients are what backward made of them. Reads values, so only on suspicion."""
        return self.gradients.untouched(self.parameters())

    def skips(self) -> None:
        """A scaler has left the step out."""
        self.state, _ = cycle.advance(self.state, "step", self.latest.get("step"), "scaler")
        self.window = []
        self.skipped += 1

    def on_clip(self, mark: sites.Mark | None) -> None:
        if self.window:
            self._clips.append(mark)

    def on_schedule(self, scheduler: Any, mark: sites.Mark | None) -> None:
        """The schedule of this optimizer moves. Early is told when the same line has come again, after a step."""
        early = self.event("schedule", mark=mark) is not None
        if mark is None or self.opaque or hasattr(scheduler, "mode_worse"):  # ReduceLROnPlateau starts from a number
            return
        line = (id(mark.code), mark.last)
        if early:
            self._early[line] = self._early.get(line, 0) + 1
        elif self._early.get(line) == 1:
            self.session.take(EarlySchedule(self.scene(mark)))

    # The step

    def _before_step(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._gone or self._away:
            return None
        if self.session.compiling():
            self.opaque = "its step is compiled"
            return None
        if not self.session.hears_work(self, steps=True):
            return None
        self._stepper = get_ident()
        frame = sys._getframe(1)
        if self._inside and self._runs(frame.f_back):  # a subclass calls `super().step()`
            self._inside += 1
            self._nested = max(self._nested, self._inside)
            return None
        self._frame = (id(frame), frame.f_code)
        return self.session.guard(self._step_begins, optimizer, args, kwargs)

    def _runs(self, frame: FrameType | None) -> bool:
        """Whether the step that was begun goes on behind this frame; it may have raised, and never ended."""
        key, code = self._frame
        while frame is not None:
            if id(frame) == key and frame.f_code is code:
                return True
            frame = frame.f_back
        return False

    def _step_begins(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self._inside = 1
        self._look_first()
        self._in_closure = False
        if self._inherits and not self.pauses:
            weights = enumerate(self.parameters())
            self._moving = next(((at, p._version) for at, p in weights if p.grad is not None), None)
        watched = self.watched
        watched.steps += 1
        if watched.steps == 1:
            self.began = self.state.gradient
        mark = sites.here(3)
        if self.session.in_backward and not self.opaque:
            self.opaque = "it steps while backward runs"
        closure = kwargs.get("closure") if "closure" in kwargs else (args[1] if len(args) > 1 else None)
        own = callable(closure) and not _does_nothing(closure)
        if closure is not None and not callable(closure) and type(optimizer).__module__.startswith("torch.optim."):
            self.session.take(ClosureCalled(self.scene(mark), given=type(closure).__name__))
        elif not own and watched.steps == 1 and self.searches():
            self.session.take(ClosureMissing(self.scene(mark)))
        if callable(closure):
            wrapped = self._wrap(closure, mark, own=own)
            if "closure" in kwargs:
                return args, {**kwargs, "closure": wrapped}
            return (args[0], wrapped, *args[2:]), kwargs
        self._uses_gradients(mark)
        return None

    def _wrap(self, closure: Callable[[], Any], mark: sites.Mark | None, *, own: bool) -> Callable[[], Any]:
        """own: whether it is the program's; what a framework passes where there is none is the step itself."""

        def gradlint_closure() -> Any:
            self.session.guard(self._closure_begins)
            self._in_closure = True
            result = closure()
            self._in_closure = False
            if own:
                self.session.guard(self._closure_ends, mark, result, _beginning(closure))
            else:
                self.session.guard(self._uses_gradients, mark)
            return result

        return gradlint_closure

    def _closure_begins(self) -> None:
        self._closure_backwards = self.watched.backwards
        self._closure_zeros = self.watched.zeros

    def _closure_ends(self, mark: sites.Mark | None, result: Any, begins: sites.Mark | None) -> None:
        made = self.watched.backwards - self._closure_backwards
        if result is None:
            scene = self.scene(mark)
            self.session.take(ClosureWithoutLoss(scene, searches=self.searches(), begins=resolve(begins)))
        cleared = self.watched.zeros - self._closure_zeros
        self._uses_gradients(mark, Closure(made, cleared, resolve(begins)))

    def _uses_gradients(self, mark: sites.Mark | None, closure: Closure | None = None) -> None:
        """The optimizer is about to read the gradients."""
        session = self.session
        session.before_update(self, mark)
        before = self.state
        breach = self.event("step", "scaler" if self.scaler_stepping else "", mark)
        if breach is None and before.gradient in (cycle.FIRST, cycle.READY) and self.erased_by_hand():
            breach = cycle.ERASED_STEP
        if breach is not None and not self.opaque:
            self._judge(breach, before, mark, closure)
        if self.window:
            self.windows.append(len(self.window))
        if closure is None:
            self._end_round(mark)
        session.used(self, mark)
        self._new_window()
        self._old_window = self._cleared = False

    def _end_round(self, mark: sites.Mark | None) -> None:
        order = self.latest["step"].order
        sure = self.closely and bool(self._dropped) and self.untouched()
        self.rounds.append(
            Round(mark, self.trails.get(order, ()), tuple(self.window), tuple(self._dropped), tuple(self._clips), sure)
        )
        self._dropped, self._clips = [], []
        if not self.closely and self.trails:
            self.trails.clear()

    def erased_by_hand(self) -> bool:
        """Whether backward has made gradients and none is there any more; not where others have hooks of their own."""
        if len(getattr(self._ref(), "_optimizer_step_pre_hooks", ())) > 1:
            return False
        return self.gradients.erased(self.parameters())

    def searches(self) -> bool:
        """Whether this is an optimizer that calls its closure again and again, and cannot do without."""
        return any(kind.__name__ == "LBFGS" for kind in type(self._ref()).__mro__)

    def _judge(self, breach: str, before: cycle.State, mark: sites.Mark | None, closure: Closure | None) -> None:
        """Tell a breach at a step, if the tensors agree with the machine."""
        if breach == cycle.STALE_STEP:
            self._rewrites = self._rewrites or (self._old_window and not self.gradients.summed(self.parameters()))
            if self._rewrites or not self._old_window:
                return
        if breach in (cycle.EMPTY_STEP, cycle.ERASED_STEP) and not self.broken and self.written():
            self.state = self.state._replace(gradient=cycle.OUTSIDE, scale=cycle.ENGINE)
            return
        tally = self.tally("step", mark)
        if breach in (cycle.EMPTY_STEP, cycle.ERASED_STEP) and self.broken:
            return
        if breach == cycle.EMPTY_STEP and not self.watched.backwards and closure is None:
            self.idle = (mark, tally)
            return  # it may be another's turn; told at the end, if none has come by then
        if self.named_only(mark, _LACKS.get(breach, "")):
            return
        scene, take = self.scene(mark), self.session.take
        made, cleared = self._marks(before.made), before.cleared if isinstance(before.cleared, Event) else None
        if breach == cycle.STALE_STEP:
            other = self._cleared_instead()
            take(
                StaleStep(
                    scene,
                    tally=tally,
                    closure=closure,
                    searches=self.searches(),
                    made=resolve(made),
                    zeros=self.watched.zeros,
                    cleared_at=cleared.step if cleared is not None else None,
                    each_round=same_rounds(cleared.mark if cleared else self.mark_of("zero"), made),
                    outside=resolve(self._cleared_outside()),
                    other=other[0],
                    other_zero=resolve(other[1]),
                )
            )
        elif breach == cycle.ERASED_STEP:
            place = resolve(cleared.mark) if cleared is not None else None
            take(ErasedStep(scene, tally=tally, closure=closure, began=self.began, made=resolve(made), cleared=place))
        elif breach == cycle.EMPTY_STEP:
            take(EmptyStep(scene, tally=tally, closure=closure))
        elif breach == cycle.SCALED_STEP:
            self.suspect()
            take(ScaledStep(scene, untouched=self.untouched()))
        elif breach == cycle.PLAIN_SCALER_STEP:
            take(PlainScalerStep(scene, gradient=before.gradient, made=resolve(made)))

    def named_only(self, mark: sites.Mark | None, method: str) -> bool:
        """Whether the function of this line names a method and does not call it; if so, that is told."""
        owner = self.watched.name.rpartition(".")[2] if method == "step" else ""  # a schedule steps too
        missing = stores.uncalled(mark.code, method, owner) if mark is not None and method else None
        if missing is not None:
            self.session.take(CallMissing(self.scene(missing), method=method))
        return missing is not None

    def _cleared_instead(self) -> tuple[str, sites.Mark | None]:
        """The optimizer that was cleared in this one's place, and where: again, though it has not stepped since."""
        if self.watched.zeros or self._instead[0]:
            return self._instead
        since = self.rounds[-1].window[-1].order if self.rounds and self.rounds[-1].window else 0
        for other in self.session.observers.values():
            zero, step = other.latest.get("zero"), other.latest.get("step")
            if other is self or zero is None or zero.order <= since or (step is not None and step.order > zero.order):
                continue
            if other.watched.zeros > 2 * other.watched.steps - 1:
                self._instead = other.label, zero.mark
        return self._instead

    def _cleared_outside(self) -> sites.Mark | None:
        """The call that will clear the gradients when the loop is over in which they are used, if none did so far."""
        if self.watched.zeros or self._odd_lines_of("step") > _LOOKS:
            return None
        found = outside(sites.frames(2), self._names_of_clearing, "zero_grad")
        return sites.Mark(*found) if found is not None else None

    def _odd_lines_of(self, kind: str) -> int:
        return sum(times for line, times in self._odd_lines.items() if line[0] == kind)

    def _names_of_clearing(self, frame: FrameType) -> set[str]:
        """What the optimizer, and the models that have all its parameters, are called in a frame and on its `self`."""
        variables = sites.variables(frame)
        models = [model for _, model in self.session.models]
        ids = self.ids()
        whole = {id(model) for model in models if ids <= {id(p) for p in model.parameters()}} | {id(self._ref())}
        scopes = (dict(variables), frame.f_globals, attributes(variables.get("self")))
        return {name for scope in scopes for name, value in list(scope.items()) if id(value) in whole}

    def written(self) -> bool:
        """Whether somebody has put gradients there that no backward was seen to make."""
        return self.gradients.written(self.parameters())

    def _after_step(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not self.awake:
            self._slept += 1
            if self._slept < self._night or self._away or self._gone or self.session.compiling():
                return
            if self.session.hears_work(self, steps=True):
                self.session.guard(self._morning)
            return
        if self._gone or self.session.compiling() or self._stepper != get_ident():
            return
        if self._inside != 1:  # of a subclass, or it began before this observer woke
            self._inside = max(self._inside - 1, 0)
            return
        self.session.guard(self._step_ends)

    def _step_ends(self) -> None:
        self._inside = 0
        if self._moving is not None:
            at, version = self._moving
            self.pauses = at < len(parameters := self.parameters()) and parameters[at]._version == version
            self._moving = None
            if self.pauses and not self.opaque:
                self.opaque = "some of its steps change nothing"
        watched = self.watched
        watched.checked += 1
        self._cleared = False
        self.session.after_update(self)
        counted = self._counted()
        if watched.steps > 1 and counted is not None:
            self._habit.learn(*counted)
        self.sampling.done(watched.steps)
        self._go_on()

    def attend(self, steps: int = 3) -> None:
        """Check the next steps thoroughly, from the next one on that begins."""
        self.sampling.attend(self.steps + steps)
        self._night = 0

    def rouse(self) -> None:
        """Check the next step that is checked thoroughly."""
        self.sampling.rouse()

    # Telling

    def _usual(self) -> int:
        """How many backwards the latest steps used, if it was the same number for each; else 0."""
        return self.windows[-1] if len(self.windows) > 1 and len(set(self.windows)) == 1 else 0

    def _marks(self, made: object = None) -> sites.Mark | None:
        if isinstance(made, Event):
            return made.mark  # type: ignore[no-any-return]
        return self.window[0].mark if self.window else None

    def scene(self, mark: sites.Mark | None, step: int | None = None) -> Scene:
        """This place, for a sighting that is about this optimizer; step: if it was not this one."""
        return Scene(
            self.watched.steps if step is None else step,
            resolve(mark),
            self.watched,
            resolve(self.built),
            resolve(self.mark_of("step")),
            resolve(self.mark_of("backward")),
            resolve(self.mark_of("zero")),
        )

    def mark_of(self, kind: str) -> sites.Mark | None:
        event = self.latest.get(kind)
        return event.mark if event is not None else None

    def name(self, parameter: Tensor) -> str:
        """What the user calls a parameter of this optimizer."""
        name = self.names.get(id(parameter))
        if name is None:
            self._name_all()
            name = self.names.get(id(parameter)) or self.session.models.name(parameter) or "a tensor"
        return name

    def _name_all(self) -> None:
        optimizer = self._ref()
        if optimizer is None:
            return
        described = []
        models = self.session.models
        for number, group in enumerate(optimizer.param_groups):
            for index, parameter in enumerate(group["params"]):
                name = self.session.name(parameter)
                held = bool(models.name(parameter)) if models else bool(name)
                name = name or f"parameter {index} of group {number}"
                self.names[id(parameter)] = name
                described.append(
                    Parameter(
                        name,
                        () if is_lazy(parameter) else tuple(parameter.shape),
                        str(parameter.dtype).removeprefix("torch."),
                        str(parameter.device),
                        number,
                        parameter.requires_grad,
                        held,
                    )
                )
        self.watched.parameters = tuple(described)

    def describe(self) -> None:
        """Fill in what the record says of the parameters."""
        self._name_all()


def _nothing(*_: Any) -> None:
    """Stands in the place of a hook."""


def _calls_super(kind: type) -> bool:
    """Whether the step of this optimizer is the user's, and calls the one that it inherits."""
    code = sites.code_of(getattr(kind, "step", None))
    return code is not None and "super" in code.co_names and "step" in code.co_names


def _beginning(closure: object) -> sites.Mark | None:
    """The first line of the user's closure."""
    code = sites.code_of(closure.func if isinstance(closure, partial) else closure)
    if code is None or sites.foreign(code.co_filename):
        return None
    return sites.Mark(code, 0, code.co_firstlineno)


def _does_nothing(closure: object) -> bool:
    """Whether it is the empty function of a framework that always passes one, as Lightning does: the step has none."""
    while isinstance(closure, partial):  # around it may be what the framework does between closure and update
        closure = closure.args[-1] if closure.args else None
    code = sites.code_of(closure)
    return code is not None and sites.foreign(code.co_filename) and not (code.co_names or code.co_freevars)


def is_lazy(parameter: Tensor) -> bool:
    """Whether a parameter of a lazy module has no shape yet."""
    return hasattr(parameter, "materialize")


def moment(observer: Observer, event: Event) -> Moment:
    """The event as the report draws it."""
    site = sites.resolve(event.mark)
    return Moment(observer.watched.index, event.kind, event.step, event.order, str(site) if site else "")
