"""Optimizers with a training and an evaluation mode, as those without a schedule: is a model judged in the former?

Such an optimizer says in its groups which mode it is in, and to switch it writes other weights into the model, which
shows by their versions. Sighting: JudgedInTraining.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, NamedTuple

from gradcheck_lint.runtime import sites
from gradcheck_lint.runtime.check import Check
from gradcheck_lint.runtime.sightings.mode import JudgedInTraining

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from gradcheck_lint.runtime.observer import Observer
    from gradcheck_lint.runtime.session import Session
    from gradcheck_lint.runtime.sites import Mark

_MODE = "train_mode"  # what the groups of such an optimizer call it


class _Judged(NamedTuple):
    """The model was put into evaluation mode, and its optimizer was not by then."""

    model: weakref.ref[Module]
    version: int
    step: int
    mark: Mark | None


class Switched(Check):
    """Nothing to do for any other optimizer."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._with_modes: dict[int, Observer] = {}
        self._judged: dict[int, _Judged] = {}

    def attached(self, observer: Observer) -> None:
        if all(_MODE in group for group in observer.groups()) and hasattr(observer.optimizer, "eval"):
            self._with_modes[observer.watched.index] = observer

    def mode_switched(self, module: Module, mode: bool) -> None:
        for index, observer in self._with_modes.items() if self._with_modes and not mode else ():
            first = _first(observer)
            if first is None or not observer.steps or not _trains(observer):
                continue
            if any(p is first for p in module.parameters()):
                self._judged[index] = _Judged(weakref.ref(module), first._version, observer.steps, sites.here(4))

    def before_update(self, observer: Observer, mark: Mark | None) -> None:
        if self._judged:
            self._tell(observer)

    def glance(self, observer: Observer, mark: Mark | None) -> None:
        self._judged.pop(observer.watched.index, None)  # steps have been made since

    def ended(self) -> None:
        for observer in list(self._with_modes.values()):
            self._tell(observer)

    def _tell(self, observer: Observer) -> None:
        judged = self._judged.pop(observer.watched.index, None)
        first = _first(observer)
        if judged is None or first is None or observer.steps > judged.step + 1 or first._version != judged.version:
            return
        model = judged.model()
        if model is not None and _trains(observer) and (model.training or observer.steps == judged.step):
            del self._with_modes[observer.watched.index]
            self.session.take(JudgedInTraining(observer.scene(judged.mark, judged.step)))


def _first(observer: Observer) -> Tensor | None:
    return next(iter(observer.parameters()), None)


def _trains(observer: Observer) -> bool:
    return all(group.get(_MODE) is True for group in observer.groups())
