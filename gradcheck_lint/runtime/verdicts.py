"""What is told of the breaches that the machine names: where the tensors agree, and with the reason if it is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.laws import cycle
from gradcheck_lint.runtime import sites, stores
from gradcheck_lint.runtime.names import attributes
from gradcheck_lint.runtime.record import Event
from gradcheck_lint.runtime.sightings.order import (
    CallMissing,
    Discarded,
    EarlySchedule,
    EmptyStep,
    ErasedStep,
    PlainScalerStep,
    ScaledStep,
    StaleStep,
)  # fmt: skip
from gradcheck_lint.runtime.sites import resolve
from gradcheck_lint.runtime.trails import outside, same_rounds

if TYPE_CHECKING:
    from types import FrameType

    from gradcheck_lint.runtime.observer import Observer
    from gradcheck_lint.runtime.sightings.order import Closure, Tally
    from gradcheck_lint.runtime.sites import Mark

_LOOKS = 4  # times that it is asked whether gradients will be cleared later
_LACKS = {cycle.STALE_STEP: "zero_grad", cycle.EMPTY_STEP: "backward"}  # what was not called, where something breaks
_NOTHING = (cycle.EMPTY_STEP, cycle.ERASED_STEP)


class Verdicts:
    """Those on one optimizer."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._session = observer.session
        self._watched = observer.watched
        self.idle: tuple[Mark | None, Tally] | None = None  # a step before any backward
        self._rewrites = False  # the program puts something else in the place of what backward has added up
        self._instead: tuple[str, Mark | None] = ("", None)  # the optimizer that is cleared instead, and where
        self._early: dict[tuple[int, int], int] = {}  # lines that moved the schedule before the first step

    # A step

    def judge(self, breach: str, before: cycle.State, mark: Mark | None, closure: Closure | None) -> None:
        """Tell a breach at a step, if the tensors agree with the machine."""
        observer, machine = self._observer, self._observer.machine
        if breach == cycle.STALE_STEP:
            old = machine.window.old
            self._rewrites = self._rewrites or (old and not machine.gradients.summed(observer.parameters()))
            if self._rewrites or not old:
                return
        if breach in _NOTHING and not observer.broken and machine.written():
            machine.unknown()
            return
        tally = machine.tally("step", mark)
        if breach in _NOTHING and observer.broken:
            return
        if breach == cycle.EMPTY_STEP and not self._watched.backwards and closure is None:
            self.idle = (mark, tally)
            return  # it may be another's turn; told at the end, if none has come by then
        if self.named_only(mark, _LACKS.get(breach, "")):
            return
        if breach == cycle.STALE_STEP:
            self._stale(before, mark, tally, closure)
        elif breach == cycle.ERASED_STEP:
            self._erased(before, mark, tally, closure)
        elif breach == cycle.EMPTY_STEP:
            self._session.take(EmptyStep(observer.scene(mark), tally=tally, closure=closure))
        elif breach == cycle.SCALED_STEP:
            observer.attention.suspect()
            self._session.take(ScaledStep(observer.scene(mark), untouched=machine.untouched()))
        elif breach == cycle.PLAIN_SCALER_STEP:
            made = resolve(machine.made(before.made))
            self._session.take(PlainScalerStep(observer.scene(mark), gradient=before.gradient, made=made))

    def _stale(self, before: cycle.State, mark: Mark | None, tally: Tally, closure: Closure | None) -> None:
        observer, machine = self._observer, self._observer.machine
        cleared = before.cleared if isinstance(before.cleared, Event) else None
        made = machine.made(before.made)
        other, other_zero = self._cleared_instead()
        self._session.take(
            StaleStep(
                observer.scene(mark),
                tally=tally,
                closure=closure,
                searches=observer.subject.searches(),
                made=resolve(made),
                zeros=self._watched.zeros,
                cleared_at=cleared.step if cleared is not None else None,
                each_round=same_rounds((cleared and cleared.mark) or machine.mark_of("zero"), made),
                outside=resolve(self._cleared_outside()),
                other=other,
                other_zero=resolve(other_zero),
            )
        )

    def _erased(self, before: cycle.State, mark: Mark | None, tally: Tally, closure: Closure | None) -> None:
        machine = self._observer.machine
        cleared = resolve(before.cleared.mark) if isinstance(before.cleared, Event) else None
        made = resolve(machine.made(before.made))
        scene = self._observer.scene(mark)
        self._session.take(
            ErasedStep(scene, tally=tally, closure=closure, began=machine.began, made=made, cleared=cleared)
        )

    def named_only(self, mark: Mark | None, method: str) -> bool:
        """Whether the function of this line names a method and does not call it; if so, that is told."""
        owner = self._watched.name.rpartition(".")[2] if method == "step" else ""  # a schedule steps too
        missing = stores.uncalled(mark.code, method, owner) if mark is not None and method else None
        if missing is not None:
            self._session.take(CallMissing(self._observer.scene(missing), method=method))
        return missing is not None

    def _cleared_instead(self) -> tuple[str, Mark | None]:
        """The optimizer that was cleared in this one's place, and where: again, though it has not stepped since."""
        if self._watched.zeros or self._instead[0]:
            return self._instead
        rounds = self._observer.machine.window.rounds
        since = rounds[-1].window[-1].order if rounds and rounds[-1].window else 0
        for other in self._session.observers.values():
            zero, step = other.latest.get("zero"), other.latest.get("step")
            if other is self._observer or zero is None or zero.order <= since:
                continue
            if step is not None and step.order > zero.order:
                continue
            if other.watched.zeros > 2 * other.watched.steps - 1:
                self._instead = other.label, zero.mark
        return self._instead

    def _cleared_outside(self) -> Mark | None:
        """The call that will clear the gradients when the loop is over in which they are used, if none did so far."""
        if self._watched.zeros or self._observer.machine.odd("step") > _LOOKS:
            return None
        found = outside(sites.frames(2), self._names_of_clearing, "zero_grad")
        return sites.Mark(*found) if found is not None else None

    def _names_of_clearing(self, frame: FrameType) -> set[str]:
        """What the optimizer, and the models that have all its parameters, are called in a frame and on its `self`."""
        variables = sites.variables(frame)
        models = [model for _, model in self._session.models]
        ids = self._observer.ids()
        whole = {id(model) for model in models if ids <= {id(p) for p in model.parameters()}}
        whole.add(id(self._observer.optimizer))
        scopes = (dict(variables), frame.f_globals, attributes(variables.get("self")))
        return {name for scope in scopes for name, value in list(scope.items()) if id(value) in whole}

    # Others

    def discarded(self, mark: Mark | None, *, regular: bool) -> None:
        """What the window holds is cleared. regular: the same line has cleared when there was nothing to lose."""
        machine, window = self._observer.machine, self._observer.machine.window
        size, usual, finite = len(window), window.usual(), True
        if 0 < size < usual:  # a part of a window, if it is made by the same line as the whole ones
            lines = {event.mark for event in window.rounds[-1].window} if window.rounds else set()
            finite = all(event.mark in lines for event in window) and machine.finite()
        scene, made = self._observer.scene(mark), resolve(machine.made())
        self._session.take(Discarded(scene, window=size, usual=usual, regular=regular, finite=finite, made=made))

    def discarded_unseen(self, size: int) -> None:
        """By what was counted, some windows of this size were cleared."""
        machine = self._observer.machine
        scene, usual = self._observer.scene(machine.mark_of("zero")), machine.window.usual()
        self._session.take(Discarded(scene, window=size, usual=usual, regular=False, finite=True, made=None))

    def schedule(self, mark: Mark | None, *, early: bool) -> None:
        """The schedule moves. Early is told when the same line has come again, after a step."""
        if mark is None or self._observer.opaque:
            return
        line = (id(mark.code), mark.last)
        if early:
            self._early[line] = self._early.get(line, 0) + 1
        elif self._early.get(line) == 1:
            self._session.take(EarlySchedule(self._observer.scene(mark)))
