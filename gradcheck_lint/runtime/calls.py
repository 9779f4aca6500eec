"""Other calls that `patches` wraps, and what they mean for the optimizers: clearing, clipping, schedules, groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradcheck_lint.laws import cycle
from gradcheck_lint.laws.answer import NO, YES
from gradcheck_lint.laws.holding import shares_ids
from gradcheck_lint.runtime import sites
from gradcheck_lint.runtime.call import Call
from gradcheck_lint.runtime.sightings.order import EmptyClip, ScaledClip

if TYPE_CHECKING:
    from gradcheck_lint.runtime.observer import Observer
    from gradcheck_lint.runtime.session import Session

    Args = tuple[Any, ...]
    Kwargs = dict[str, Any]

MEASURED = 1e6  # a bound of this size or more clips nothing: the call is there for the norm that it returns


class Calls:
    """Hands them to the observers that they concern, and to the checks that hear them."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._begins = {
            Call.ZERO_GRAD: self._zeroed,
            Call.MODULE_ZERO_GRAD: self._module_zeroed,
            Call.CLIP: self._clipped,
            Call.SCHEDULER_STEP: self._scheduled,
            **session.scaling.begins(),
        }
        self._ends = {
            Call.ADD_PARAM_GROUP: self._group_added,
            Call.LOAD_STATE: self._changed,
            Call.MODULE_LOAD_STATE: self._changed,
            Call.MODULE_REQUIRES_GRAD: self._changed,
            **session.scaling.ends(),
        }

    def begin(self, kind: Call, args: Args, kwargs: Kwargs) -> None:
        """A wrapped call begins."""
        handler, guard = self._begins.get(kind), self._session.guard
        if handler is not None:
            guard.run(handler, args, kwargs)
        guard.call_begins(kind, args, kwargs)

    def end(self, kind: Call, args: Args, kwargs: Kwargs, result: object, error: BaseException | None) -> None:
        """It has ended, or raised `error`."""
        handler, guard = self._ends.get(kind), self._session.guard
        if handler is not None:
            guard.run(handler, args, kwargs, result, error)
        guard.call_ended(kind, args, kwargs, result, error)

    def _zeroed(self, args: Args, kwargs: Kwargs) -> None:
        observer = self._session.observers.get(id(args[0]))
        if observer is not None and observer.awake:
            observer.machine.zeroed(sites.here(3))

    def _module_zeroed(self, args: Args, kwargs: Kwargs) -> None:
        """`model.zero_grad()`: it clears an optimizer if it clears all that the optimizer holds."""
        cleared = {id(parameter) for parameter in args[0].parameters()}
        for observer in self._session.observers.values():
            ids = observer.ids() if observer.awake else set()
            if shares_ids(cleared, ids) is YES:
                observer.machine.zeroed(sites.here(3))

    def _group_added(self, args: Args, kwargs: Kwargs, result: object, error: BaseException | None) -> None:
        observer = self._session.observers.get(id(args[0]))
        if observer is not None and error is None:
            observer.renew()
            self._session.roster.changed()

    def _changed(self, args: Args, kwargs: Kwargs, result: object, error: BaseException | None) -> None:
        """What is trained may not be what it was: the next steps are looked at, a few times in a run."""
        if error is None:
            self._session.roster.changed()

    def _scheduled(self, args: Args, kwargs: Kwargs) -> None:
        scheduler = args[0]
        optimizer = getattr(scheduler, "optimizer", None)
        optimizer = getattr(optimizer, "optimizer", optimizer)
        observer = self._session.observers.get(id(optimizer))
        initial = getattr(scheduler, "_is_initial", False) or getattr(scheduler, "_step_count", 1) == 0
        if observer is not None and observer.awake and not initial:
            observer.machine.scheduled(scheduler, sites.here(3))

    def _clipped(self, args: Args, kwargs: Kwargs) -> None:
        """Gradients are clipped; what is wrong with that is told if it is wrong for all whose gradients they are."""
        import torch

        parameters, bound = args[0] if args else kwargs.get("parameters"), _bound(args, kwargs)
        if isinstance(parameters, torch.Tensor):
            ids = {id(parameters)}
        elif isinstance(parameters, (list, tuple)):
            ids = {id(parameter) for parameter in parameters}
        else:
            return  # a generator would be used up
        mark = sites.here(3)
        concerned = [o for o in self._session.observers.values() if o.awake and shares_ids(ids, o.ids()) is not NO]
        breaches = []
        for observer in concerned:
            if bound < MEASURED:
                observer.window.clip(mark)
            breaches.append(observer.machine.event("clip", mark=mark))
        if bound < MEASURED and None not in breaches:
            for observer, breach in zip(concerned, breaches, strict=True):
                self._tell_clip(observer, breach, mark, bound)
        for observer in concerned:
            observer.machine.touch()

    def _tell_clip(self, observer: Observer, breach: str | None, mark: sites.Mark | None, bound: float) -> None:
        machine = observer.machine
        if breach == cycle.SCALED_CLIP:
            observer.attention.suspect()
        elif not observer.watched.backwards:
            machine.tally("clip", mark)
            return  # it may be another's turn
        if observer.opaque or (breach == cycle.EMPTY_CLIP and machine.written()):
            return
        tally = machine.tally("clip", mark)
        if breach == cycle.SCALED_CLIP:
            self._session.take(ScaledClip(observer.scene(mark), untouched=machine.untouched(), bound=bound))
        else:
            self._session.take(EmptyClip(observer.scene(mark), tally=tally, gradient=machine.state.gradient))


def _bound(args: Args, kwargs: Kwargs) -> float:
    """The bound that a call of a clipping function is given."""
    given = args[1] if len(args) > 1 else kwargs.get("max_norm", kwargs.get("clip_value", 0.0))
    return float(given) if isinstance(given, (int, float)) else 0.0
