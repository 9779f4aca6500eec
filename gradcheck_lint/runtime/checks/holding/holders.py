"""Who holds what: what the record says of the models and each optimizer's parameters, and which no optimizer has.

Noted while the program trains, because its models and optimizers may be gone when the watching ends.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, NamedTuple

from gradcheck_lint.runtime.check import Check
from gradcheck_lint.runtime.record import Model

if TYPE_CHECKING:
    from torch.nn import Module

    from gradcheck_lint.runtime.observer import Observer
    from gradcheck_lint.runtime.session import Session

_STEPS = frozenset({1, 2, 20})  # of each optimizer, after which is noted who holds what
_MODELS = 100  # that are remembered


class _Known(NamedTuple):
    """A parameter of a model."""

    name: str  # the latest
    held: bool  # an optimizer has ever held it
    fed: bool  # it has ever had a gradient when this was looked at


_NEW = _Known("", held=False, fed=False)


class Holders(Check):
    """Sights nothing; fills `record.missing`, `record.models` and the parameters of each optimizer."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._known: dict[int, _Known] = {}  # by id
        self._models: list[tuple[weakref.ref[Module], Model]] = []

    def after_update(self, observer: Observer) -> None:
        steps = observer.watched.steps
        if steps in _STEPS or observer.sampling.rarely(steps):
            observer.describe()
            self._note()

    def ended(self) -> None:
        for observer in self.session.observers.values():
            if observer.optimizer is not None:
                observer.describe()
        self._note()
        missing = (known.name for known in self._known.values() if known.fed and not known.held)
        self.session.record.missing = list(dict.fromkeys(missing))

    def _note(self) -> None:
        """A parameter that an optimizer once held stays held: the optimizer may have done its part and gone.

        One that has never had a gradient misses no optimizer, as those of a target network do not.
        """
        self._note_models()
        held = self.session.roster.held()
        known = self._known
        for name, parameter in self.session.models.parameters():
            key = id(parameter)
            if parameter.requires_grad:
                before = known.get(key, _NEW)
                fed = before.fed or parameter.grad is not None
                known[key] = _Known(name, held=before.held or key in held, fed=fed)
            else:
                known.pop(key, None)

    def _note_models(self) -> None:
        """Those that are watched now, and those that were until they were gone."""
        gone = [(ref, model) for ref, model in self._models if ref() is None]
        now = [(weakref.ref(model), _described(name, model)) for name, model in self.session.models]
        self._models = (now + gone)[:_MODELS]
        self.session.record.models = [model for _, model in self._models]


def _described(name: str, model: Module) -> Model:
    return Model(name if name != "self" else "", type(model).__name__, sum(1 for _ in model.parameters()))
