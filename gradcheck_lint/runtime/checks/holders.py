"""Who holds what: what the record says of each optimizer's parameters, and which trainable ones no optimizer has.

Noted while the program trains, because its models and optimizers may be gone when the watching ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.runtime.checks import Check

if TYPE_CHECKING:
    from gradcheck_lint.runtime.observer import Observer
    from gradcheck_lint.runtime.session import Session

_STEPS = frozenset({1, 2, 20})  # of each optimizer, after which is noted who holds what


class Holders(Check):
    """Sights nothing; fills `record.missing` and the parameters of each optimizer."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._known: dict[int, tuple[str, bool]] = {}  # by id: the latest name, and whether an optimizer ever held it

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
        missing = (name for name, held in self._known.values() if not held)
        self.session.record.missing = list(dict.fromkeys(missing))

    def _note(self) -> None:
        """A parameter that an optimizer once held stays held: the optimizer may have done its part and gone."""
        held = self.session.held()
        known = self._known
        for name, parameter in self.session.models.parameters():
            key = id(parameter)
            if parameter.requires_grad:
                known[key] = (name, key in held or (key in known and known[key][1]))
            else:
                known.pop(key, None)
