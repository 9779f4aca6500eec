"""What GradScalers do: which losses they have multiplied, and what they do to the gradients of watched optimizers.

The graph of each loss that is multiplied is marked, and looked for when backward is called.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from gradcheck_lint.laws import cycle
from gradcheck_lint.runtime import sites
from gradcheck_lint.runtime.call import Call
from gradcheck_lint.runtime.sightings.order import ScalerRefused, UnscaledTwice

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from gradcheck_lint.runtime.observer import Observer
    from gradcheck_lint.runtime.session import Session

    Args = tuple[Any, ...]
    Kwargs = dict[str, Any]

_KEY = "gradlint-scaled"
NEAR = 500  # nodes of the graph that are looked at; a scaling lies next to the loss


def mark_scaled(result: Any) -> None:
    """`result` came out of `scaler.scale`: a tensor, or some of them."""
    if isinstance(result, (list, tuple)):
        for item in result:
            mark_scaled(item)
    elif getattr(result, "grad_fn", None) is not None:
        result.grad_fn.metadata[_KEY] = True


def is_scaled(roots: Sequence[Tensor]) -> bool:
    """Whether one of these is what a scaler made, itself or after one more operation."""
    nodes: list[Any] = [root.grad_fn for root in roots if root.grad_fn is not None]
    nodes += [following for node in nodes for following, _ in node.next_functions if following is not None]
    return any(_KEY in node.metadata for node in nodes)


def scaled(roots: Sequence[Tensor]) -> bool:
    """Whether what backward is called on was scaled, or is made of something that was."""
    todo: deque[Any] = deque(root.grad_fn for root in roots if root.grad_fn is not None)
    seen = set(todo)
    while todo and len(seen) < NEAR:
        node = todo.popleft()
        if _KEY in node.metadata:
            return True
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                todo.append(following)
    return bool(todo)  # too large a graph to be sure that it was not


def refuses(scaler: object, error: BaseException | None) -> bool:
    """Whether this was raised by the scaler itself, and not by what it calls: the optimizer's step, or Ctrl-C in it."""
    trace = error.__traceback__ if isinstance(error, Exception) else None
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = trace.tb_frame.f_globals.get("__name__") if trace is not None else None
    return where in {kind.__module__ for kind in type(scaler).__mro__}


class Scaling:
    """The scalers of a session: follows their calls, and hands them to the observers whose gradients they change."""

    def __init__(self, session: Session) -> None:
        self.at_work = False  # whether one has multiplied anything
        self._session = session
        self._steps = -1  # of the optimizer that a scaler makes step, before it did
        self._updated = False  # whether the call of a scaler before this one was its update

    def begins(self) -> dict[Call, Callable[[Args, Kwargs], None]]:
        """What is done when a call begins, by the kind of the call."""
        return {
            Call.SCALER_SCALE: self._scales,
            Call.SCALER_UNSCALE: self._unscales,
            Call.SCALER_STEP: self._steps_now,
        }

    def ends(self) -> dict[Call, Callable[[Args, Kwargs, object, BaseException | None], None]]:
        """The same when it has ended."""
        return {
            Call.SCALER_SCALE: self._has_scaled,
            Call.SCALER_UNSCALE: self._has_unscaled,
            Call.SCALER_STEP: self._has_stepped,
            Call.SCALER_UPDATE: self._has_updated,
        }

    def _scales(self, args: Args, kwargs: Kwargs) -> None:
        self.at_work = self.at_work or args[0].is_enabled()

    def _has_scaled(self, args: Args, kwargs: Kwargs, result: object, error: BaseException | None) -> None:
        if error is None and args[0].is_enabled():
            mark_scaled(result)

    def _unscales(self, args: Args, kwargs: Kwargs) -> None:
        observer = self._observer(args, kwargs)
        if observer is None or not observer.awake or not args[0].is_enabled():
            return
        if observer.scaler_stepping:  # the scaler's step unscales by itself
            observer.machine.touch()
            return
        mark = sites.here(3)
        before = observer.mark_of("unscale")
        breach = observer.machine.event("unscale", mark=mark)
        observer.machine.touch()
        if breach is not None:
            self._session.take(UnscaledTwice(observer.scene(mark), before=sites.resolve(before)))

    def _has_unscaled(self, args: Args, kwargs: Kwargs, result: object, error: BaseException | None) -> None:
        if refuses(args[0], error):
            self._refused(Call.SCALER_UNSCALE, self._observer(args, kwargs))

    def _steps_now(self, args: Args, kwargs: Kwargs) -> None:
        observer = self._observer(args, kwargs)
        if observer is not None and observer.awake and args[0].is_enabled():
            observer.scaler_stepping = True
            self._steps = observer.watched.steps
        self._updated = False

    def _has_stepped(self, args: Args, kwargs: Kwargs, result: object, error: BaseException | None) -> None:
        observer = self._observer(args, kwargs)
        if observer is not None and observer.scaler_stepping:
            observer.scaler_stepping = False
            if error is None and observer.watched.steps == self._steps:
                observer.machine.skips()  # for the gradients were not finite
        if refuses(args[0], error):
            self._refused(Call.SCALER_STEP, observer)

    def _has_updated(self, args: Args, kwargs: Kwargs, result: object, error: BaseException | None) -> None:
        self._updated = self._updated or error is None
        if refuses(args[0], error):
            self._refused(Call.SCALER_UPDATE, next(iter(self._awake()), None))

    def _awake(self) -> list[Observer]:
        return [observer for observer in self._session.observers.values() if observer.awake]

    def _observer(self, args: Args, kwargs: Kwargs) -> Observer | None:
        """That of the optimizer which a call is about."""
        optimizer = args[1] if len(args) > 1 else kwargs.get("optimizer")
        optimizer = getattr(optimizer, "optimizer", optimizer)
        return self._session.observers.get(id(optimizer))

    def _refused(self, kind: Call, observer: Observer | None) -> None:
        """A scaler has raised: it was called out of turn."""
        if observer is None:
            return
        bypassed = [other.label for other in self._awake() if other.machine.state.scale == cycle.SCALED]
        self._session.take(
            ScalerRefused(
                observer.scene(sites.here()),
                call=kind,
                gradient=observer.machine.state.gradient,
                scale=observer.machine.state.scale,
                bypassed=tuple(bypassed),
                updated=self._updated,
            )
        )
