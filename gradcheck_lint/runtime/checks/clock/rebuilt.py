"""Optimizers, schedulers and scalers that are built again and again, and schedulers that move what does not train.

Sightings: BuiltAnew (the same line has built another one for what the last one trained), ScheduleElsewhere (the
optimizer of a scheduler never steps, another one over the same parameters does), ScheduleLeft (its optimizer was
given up for another one), ScheduleUnfinished (a schedule that was made for as many steps as the optimizer took has
moved a small part of the way).
"""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

from gradcheck_lint.laws import clock
from gradcheck_lint.laws.answer import NO, YES
from gradcheck_lint.laws.clock import Built, Pace
from gradcheck_lint.laws.holding import shares_ids
from gradcheck_lint.runtime import sites
from gradcheck_lint.runtime.call import Call
from gradcheck_lint.runtime.check import Check
from gradcheck_lint.runtime.checks.clock import turns
from gradcheck_lint.runtime.reading import beginning, equal, plain_rates
from gradcheck_lint.runtime.references import Ref
from gradcheck_lint.runtime.sightings.clock import BuiltAnew, ScheduleElsewhere, ScheduleLeft, ScheduleUnfinished
from gradcheck_lint.runtime.sites import resolve
from gradcheck_lint.runtime.structs import struct

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

    from gradcheck_lint.runtime.observer import Observer
    from gradcheck_lint.runtime.session import Session
    from gradcheck_lint.runtime.sites import Mark

_VALUES = 16  # of a parameter that are compared
_SEARCHES = 3  # for who holds an optimizer, through all objects there are


class Kept(NamedTuple):
    """A parameter after a step."""

    parameter: Ref
    values: Tensor
    version: int
    step: int
    each: int  # how far one step takes the version


@struct
class Line:
    """What a line of the program has built."""

    ids: frozenset[int] = frozenset()  # what the last one was for
    options: Any = None
    times: int = 0  # in a row, each for the same, none of which lost its weights in between
    most: int = 0  # the most steps that one of them made
    last: weakref.ref[Any] | None = None
    moves: int = 0  # of the last one, if it is no optimizer
    observer: Observer | None = None  # of the last one, if it is
    kept: Kept | None = None
    remembers: bool = False  # whether it had something to lose
    hand: turns.Hand | None = None  # when the last one was built
    batch: turns.Hand | None = None  # at the first step of the last one
    passing: frozenset[turns.Name] = frozenset()  # data that change from step to step
    epochs: bool = True  # each of those in a row was built for the next epoch
    data: bool = False  # one of them was built for other data
    cycle: int = 0  # the most moves of a schedule that one of them had to itself

    def steps(self) -> int:
        """How often the last one was used."""
        return self.observer.steps if self.observer is not None else self.moves


@struct
class Left:
    """A scheduler, when another optimizer was built for what its own has trained."""

    scheduler: weakref.ref[Any]
    epoch: int  # how far it had moved
    own: Observer
    steps: int  # of its own optimizer
    other: Observer
    rates: list[float]  # of the other, at its first step


class Rebuilt(Check):
    """Counts what each line builds; values are read from the second time on."""

    hears = frozenset({Call.SCHEDULER_BUILD, Call.SCHEDULER_STEP, Call.SCALER_BUILD, Call.SCALER_UPDATE})

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._lines: dict[tuple[Built, int, int], Line] = {}
        self._of: dict[int, Line] = {}  # by the id of what was built last
        self._moved: dict[int, tuple[weakref.ref[Any], Mark | None, int]] = {}  # schedulers by id, and how often
        self._schedulers: list[weakref.ref[Any]] = []  # all that were built
        self._left: dict[int, Left] = {}  # by the id of the scheduler
        self._searches = _SEARCHES

    # Optimizers

    def optimizer_built(
        self, optimizer: Optimizer, given: object, mark: Mark | None, observer: Observer | None
    ) -> None:
        ids = frozenset(id(p) for group in optimizer.param_groups for p in group["params"])
        options = {key: _plain(value) for key, value in optimizer.defaults.items()}
        line = self._again(Built.OPTIMIZER, optimizer, ids, options, mark, observer)
        if line is not None:
            self._tell(observer, mark, Built.OPTIMIZER, line)
        if observer is not None:
            self._note_schedulers(observer, ids)

    def _again(
        self,
        what: Built,
        thing: Any,
        ids: frozenset[int],
        options: Any,
        mark: Mark | None,
        observer: Observer | None = None,
    ) -> Line | None:
        """Count; the line, if it has built the same thing for the same purpose before."""
        if mark is None:
            return None
        key = (what, id(mark.code), mark.last)
        line = self._lines.setdefault(key, Line())
        steps = line.steps()
        same = bool(line.times and line.ids == ids and steps and line.remembers)
        if same and what is Built.OPTIMIZER:
            same = _goes_on(line, options)
        else:
            same = same and line.options == options
        if same and line.kept is not None:
            same = _untouched(line.kept, steps)
        if not same:
            line.times, line.most, line.epochs, line.data, line.cycle = 0, 0, True, False, 0
            line.hand, line.passing = None, frozenset()
        line.times += 1
        line.most = max(line.most, steps if same else 0)
        line.ids, line.options, line.moves, line.kept, line.observer = ids, options, 0, None, observer
        if line.last is not None and (old := line.last()) is not None:
            self._of.pop(id(old), None)
        line.last = weakref.ref(thing)
        self._of[id(thing)] = line
        return line if same else None

    def before_update(self, observer: Observer, mark: Mark | None) -> None:
        if not self._left:
            return
        if observer.watched.steps == 1:
            for left in self._left.values():
                if left.other is observer:
                    left.rates = plain_rates(observer)
        elif observer.sampling.is_sample(observer.watched.steps):
            self._judge_left()

    def after_update(self, observer: Observer) -> None:
        optimizer = observer.optimizer
        line = self._of.get(id(optimizer))
        if optimizer is None or line is None or line.observer is not observer:
            return
        if not line.remembers:
            line.remembers = any(_remembers(state) for state in optimizer.state.values())
        if line.times < 2:
            return  # most lines build one optimizer
        if observer.watched.steps == 1:
            line.batch = turns.look(sites.frames(2))
        elif line.batch is not None:
            line.passing |= turns.look(sites.frames(2)).exchanged(line.batch)
            line.batch = None
        parameter = next((p for p in observer.parameters() if not p.is_sparse and p.grad is not None), None)
        if parameter is None:
            return
        before, version, step = line.kept, parameter._version, observer.watched.steps
        each = 0
        if before is not None and step > before.step:
            each = (version - before.version) // (step - before.step)
        values = beginning(parameter, _VALUES)
        line.kept = Kept(Ref(parameter), values, version, step, each)

    def _tell(
        self,
        observer: Observer | None,
        mark: Mark | None,
        what: Built,
        line: Line,
    ) -> None:
        if observer is None or not clock.rebuilt(what, times=line.times, most=line.most):
            return
        meant = NO
        if what is Built.OPTIMIZER:
            meant = clock.cold(most=line.most, epochs=line.epochs, data=line.data, cycle=line.cycle)
        if meant is not YES:
            sure = meant is NO
            self.session.take(BuiltAnew(observer.scene(mark), what=what, times=line.times, steps=line.most, sure=sure))

    # Schedulers and scalers

    def call_ended(
        self, kind: Call, args: tuple[Any, ...], kwargs: dict[str, Any], result: object, error: BaseException | None
    ) -> None:
        if error is not None:
            return
        if kind is Call.SCHEDULER_BUILD:
            self._scheduler_built(args[0])
        elif kind is Call.SCHEDULER_STEP:
            self._scheduler_moved(args[0])
        elif kind is Call.SCALER_BUILD and args[0].is_enabled():
            self._scaler_built(args[0])
        elif kind is Call.SCALER_UPDATE:
            self._scaler_updated(args[0])

    def _scheduler_built(self, scheduler: Any) -> None:
        optimizer = getattr(scheduler, "optimizer", None)
        observer = self.session.observers.get(id(optimizer))
        if observer is None:
            return
        self._schedulers = [ref for ref in self._schedulers if ref() is not None]
        self._schedulers.append(weakref.ref(scheduler))
        mark = sites.here()
        line = self._again(Built.SCHEDULER, scheduler, frozenset({id(optimizer)}), _options(scheduler), mark)
        if line is None:
            if mark is not None:
                self._of[id(scheduler)].remembers = True
        else:
            self._tell(observer, mark, Built.SCHEDULER, line)

    def _scheduler_moved(self, scheduler: Any) -> None:
        if getattr(scheduler, "_is_initial", False) or getattr(scheduler, "_step_count", 2) < 2:
            return  # the step that torch makes when the scheduler is built
        line = self._of.get(id(scheduler))
        if line is not None:
            line.moves += 1
        trained = self._of.get(id(getattr(scheduler, "optimizer", None)))
        if trained is not None:
            trained.cycle += 1
        known = self._moved.get(id(scheduler))
        times = known[2] + 1 if known is not None and known[0]() is scheduler else 1
        mark = sites.here()
        self._moved[id(scheduler)] = (weakref.ref(scheduler), mark, times)
        if times == 2:
            self._elsewhere(scheduler, mark)

    def _elsewhere(self, scheduler: Any, mark: Mark | None) -> None:
        """The second move: has its optimizer stepped at all, while another did for the same parameters?"""
        optimizer = getattr(scheduler, "optimizer", None)
        optimizer = getattr(optimizer, "optimizer", optimizer)
        own = self.session.observers.get(id(optimizer))
        called = getattr(optimizer, "_opt_called", None) or getattr(optimizer, "_step_count", 0)
        steps = bool(called or (own is not None and own.watched.steps))
        if optimizer is None:
            return
        ids = {id(p) for group in getattr(optimizer, "param_groups", ()) for p in group["params"]}
        for other in self.session.observers.values():
            if other is own or other.watched.steps < 2:
                continue
            if clock.elsewhere(steps=steps, shared=shares_ids(ids, other.ids())) is not NO:
                built = resolve(own.built) if own is not None else None
                kind = type(scheduler).__name__
                self.session.take(ScheduleElsewhere(other.scene(mark), scheduler=kind, scheduled=built))
                return

    def _note_schedulers(self, observer: Observer, ids: frozenset[int]) -> None:
        """Another optimizer was built: the schedulers of those that have trained its parameters so far."""
        for ref in self._schedulers:
            scheduler = ref()
            own = self.session.observers.get(id(getattr(scheduler, "optimizer", None)))
            if own is not None and own is not observer and own.steps and shares_ids(ids, own.ids()) is not NO:
                epoch = getattr(scheduler, "last_epoch", 0)
                self._left[id(scheduler)] = Left(ref, epoch, own, own.steps, observer, [])

    def _judge_left(self) -> None:
        """Schedulers that went on to move an optimizer which nobody has any more."""
        scheduled = {id(getattr(ref(), "optimizer", None)) for ref in self._schedulers}
        for key, left in list(self._left.items()):
            scheduler, own, other = left.scheduler(), left.own, left.other
            optimizer = own.optimizer
            if scheduler is None or optimizer is None:
                continue
            moves = getattr(scheduler, "last_epoch", 0) - left.epoch
            set_by_others = not left.rates or plain_rates(other) != left.rates
            if not clock.left(
                stepped=own.steps > left.steps,
                moves=moves,
                others=other.steps,
                followed=id(other.optimizer) in scheduled or set_by_others,
            ):
                continue
            if not self._searches:
                return
            self._searches -= 1
            if not _held_by_others(optimizer):
                del self._left[key]
                _, mark, _ = self._moved.get(key, (None, other.built, 0))
                kind = type(scheduler).__name__
                built = resolve(own.built)
                self.session.take(ScheduleLeft(other.scene(mark), scheduler=kind, scheduled=built, moves=moves))

    def _scaler_built(self, scaler: Any) -> None:
        mark = sites.here()
        line = self._again(Built.SCALER, scaler, frozenset(), _options(scaler), mark)
        if line is None:
            if mark is not None:
                self._of[id(scaler)].remembers = True
        else:
            awake = next((o for o in self.session.observers.values() if o.awake), None)
            self._tell(awake, mark, Built.SCALER, line)

    def _scaler_updated(self, scaler: Any) -> None:
        line = self._of.get(id(scaler))
        if line is not None:
            line.moves += 1

    def ended(self) -> None:
        if self._left:
            self._judge_left()
        for ref, mark, times in self._moved.values():
            scheduler = ref()
            total = getattr(scheduler, "total_steps", None)
            observer = self.session.observers.get(id(getattr(scheduler, "optimizer", None)))
            if observer is None or not isinstance(total, int):
                continue
            if clock.counted(total=total, steps=observer.watched.steps, moves=times) is Pace.SLOW:
                self.session.take(ScheduleUnfinished(observer.scene(mark), times=times, total=total))


def _goes_on(line: Line, options: dict[str, Any]) -> bool:
    """Whether an optimizer may take the place of the last one, as far as its options say; what speaks for it is noted.

    Another rate is what a search tries, unless it comes with the next epoch: then somebody decays it by hand.
    """
    now, before = turns.look(sites.frames(2)), line.hand
    line.hand = now
    if before is None:  # the second one of the line
        line.epochs = True
        return bool({**options, "lr": 0} == {**line.options, "lr": 0})
    line.epochs = line.epochs and now.next_epoch(before)
    line.data = line.data or bool(now.exchanged(before) - line.passing)
    rate = options.get("lr") == line.options.get("lr") or line.epochs
    return rate and bool({**options, "lr": 0} == {**line.options, "lr": 0})


def _plain(value: object) -> object:
    """An option, to be compared; of a tensor no more than that it is one."""
    if isinstance(value, (tuple, list)):
        return tuple(map(_plain, value))
    return value if isinstance(value, (int, float, str, bool, type(None))) else type(value).__name__


def _untouched(kept: Kept, steps: int) -> bool:
    """Whether the weights are what the last step made of them: nobody has put them back to begin anew."""
    parameter = kept.parameter()
    if parameter is None:
        return False
    if kept.step == steps:
        return equal(beginning(parameter, _VALUES), kept.values)
    return parameter._version == kept.version + (steps - kept.step) * kept.each


def _held_by_others(optimizer: Optimizer) -> bool:
    """Whether anybody but its schedulers refers to an optimizer, who may step it again."""
    from types import FrameType, MethodType

    for frame in sites.frames(2):
        there = list(sites.variables(frame).values())
        if not there and frame.f_code.co_nlocals:
            return True  # one that we do not look into
        for value in there:
            if value is optimizer:
                return True
    for thing in gc.get_referrers(optimizer):
        if isinstance(thing, (FrameType, MethodType)):
            continue  # frames of the watcher's, and methods of its own that schedulers put into it
        attributes: Any = thing if type(thing) is dict else getattr(thing, "__dict__", None)
        schedules = type(attributes) is dict and "last_epoch" in attributes
        if not schedules or attributes.get("optimizer") is not optimizer:
            return True
    return False


def _remembers(state: Any) -> bool:
    """Whether the state of a parameter holds something that takes steps to build up."""
    return any(getattr(value, "ndim", 0) > 0 for value in state.values()) if isinstance(state, dict) else False


def _options(scheduler: Any) -> tuple[tuple[str, str], ...]:
    """What a scheduler was told, as far as it is plain."""
    plain = (int, float, str, bool)
    return tuple(sorted((k, str(v)) for k, v in vars(scheduler).items() if type(v) in plain and not k.startswith("_")))
