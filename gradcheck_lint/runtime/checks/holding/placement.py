"""Where tensors lie: is each parameter on the device of its gradient and of what the optimizer remembers of it?

Sightings: StateElsewhere (state or gradient on another device than its parameter), OnMeta (some of the
parameters that are trained have no values at all).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradcheck_lint.runtime.call import Call
from gradcheck_lint.runtime.check import Check
from gradcheck_lint.runtime.sampling import EARLY
from gradcheck_lint.runtime.sightings.holding import OnMeta, StateElsewhere

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from gradcheck_lint.runtime.observer import Observer
    from gradcheck_lint.runtime.session import Session
    from gradcheck_lint.runtime.sighting import Sighting
    from gradcheck_lint.runtime.sites import Mark


class Placement(Check):
    """Compares devices, at the early samples, after something was moved or loaded, and now and then."""

    hears = frozenset({Call.MODULE_APPLY, Call.MODULE_LOAD_STATE, Call.LOAD_STATE})

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._moved = True
        self._told: set[tuple[type[Sighting], int]] = set()

    def call_ended(
        self, kind: Call, args: tuple[Any, ...], kwargs: dict[str, Any], result: object, error: BaseException | None
    ) -> None:
        self._moved = True
        self.session.roster.rouse()

    def before_update(self, observer: Observer, mark: Mark | None) -> None:
        step = observer.watched.steps
        if not (self._moved or step in EARLY or observer.sampling.rarely(step)):
            return
        self._moved = False
        optimizer = observer.optimizer
        if optimizer is None:
            return
        self._compare(observer, optimizer, mark)

    def _compare(self, observer: Observer, optimizer: Optimizer, mark: Mark | None) -> None:
        parameters = observer.parameters()
        apart: dict[tuple[str, str, str], list[str]] = {}
        without: list[str] = []
        real = 0
        for parameter in parameters:
            if parameter.is_meta:
                without.append(observer.name(parameter))
                continue
            grad = parameter.grad
            real += grad is not None
            device = parameter.device
            if grad is not None and grad.device != device:
                key = ("gradient", str(device), str(grad.device))
                apart.setdefault(key, []).append(observer.name(parameter))
            for what, value in optimizer.state.get(parameter, {}).items():
                if getattr(value, "ndim", 0) and getattr(value, "device", device) != device:
                    key = (f"`{what}`", str(device), str(value.device))
                    apart.setdefault(key, []).append(observer.name(parameter))
                    break
        for (what, here, there), names in apart.items():
            if self._is_new(StateElsewhere, observer):
                scene = observer.scene(mark)
                self.session.take(StateElsewhere(scene, names=tuple(names), what=what, here=here, there=there))
        if without and real and self._is_new(OnMeta, observer):
            self.session.take(OnMeta(observer.scene(mark), names=tuple(without), total=len(parameters)))

    def _is_new(self, kind: type[Sighting], observer: Observer) -> bool:
        """Whether nothing of this kind was told of this optimizer before; from now on something was."""
        key = kind, observer.watched.index
        new = key not in self._told
        self._told.add(key)
        return new
