"""Parameters that the loss reaches only through operations whose derivative is zero everywhere: rounding, signs, draws.

Their gradients are there and hold nothing but zeros, so nobody misses them. Sighting: NoDerivative.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradcheck_lint.laws.reach import Reached, reached
from gradcheck_lint.runtime import sites, stores
from gradcheck_lint.runtime.check import Check
from gradcheck_lint.runtime.gradients import holds_something
from gradcheck_lint.runtime.graph import behind, kind, reach
from gradcheck_lint.runtime.sightings.reach import NoDerivative

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import CodeType

    from torch import Tensor

    from gradcheck_lint.runtime.observer import Observer
    from gradcheck_lint.runtime.record import Event
    from gradcheck_lint.runtime.session import Session
    from gradcheck_lint.runtime.sites import Mark

LOOKED_AT = 3  # steps of an optimizer after which it is told what no loss has reached in another way
_MARKS = 8  # places that are looked for, one for each operation
_METHODS = {"Trunc": ("trunc", "trunc_", "fix", "fix_"), "Div": ("div", "div_", "divide", "divide_")}


class Plateaus(Check):
    """Walks the graphs of the first losses, once more where such an operation is in them."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._alive: set[int] = set()  # the ids of leaves that some loss has reached in another way
        self._behind: dict[int, str] = {}  # those that one has not, and the operation
        self._marks: dict[str, Mark | None] = {}  # where the program does that

    def backward_begins(self, roots: Sequence[Tensor], event: Event, options: dict[str, Any]) -> None:
        if all(observer.watched.steps >= LOOKED_AT for observer in self.session.observers.values()):
            return
        whole = self.session.backward.walk(roots)
        if not whole.flat:
            self._alive.update(map(id, whole.leaves))
            return
        alive = {id(leaf) for leaf in reach(roots, whole.flat).leaves}
        self._alive |= alive
        for node in whole.flat:
            operation = kind(node)
            for leaf in behind(node):
                if id(leaf) not in alive:
                    self._behind.setdefault(id(leaf), operation)
                    if operation not in self._marks and len(self._marks) < _MARKS:
                        self._marks[operation] = self._place(operation)

    def stepped(self, observer: Observer, mark: Mark | None) -> None:
        if not self._behind or observer.watched.steps != LOOKED_AT or observer.opaque:
            return
        parameters = observer.parameters()
        dead: dict[str, list[Tensor]] = {}
        for parameter in parameters:
            flat = id(parameter) in self._behind and id(parameter) not in self._alive
            zero = flat and parameter.grad is not None and not holds_something(parameter.grad)
            wanted, fed = parameter.requires_grad, parameter.grad is not None
            if reached(wanted=wanted, fed=fed, flat=flat, zero=zero) is Reached.FLAT:
                dead.setdefault(self._behind[id(parameter)], []).append(parameter)
        for operation, those in dead.items():
            self.session.take(
                NoDerivative(
                    observer.scene(self._marks.get(operation) or observer.mark_of("backward") or mark),
                    names=tuple(map(observer.name, those)),
                    operation=_called(operation)[0],
                    draws=operation in ("Bernoulli", "Poisson", "Normal"),
                    whole=len(those) == sum(p.grad is not None for p in parameters),
                )
            )

    def _place(self, operation: str) -> Mark | None:
        """Where the user's code does that, if there is one such place in what runs and in the models."""
        found = {mark for code in self._codes() if (mark := stores.uses(code, _called(operation))) is not None}
        return found.pop() if len(found) == 1 else None

    def _codes(self) -> set[CodeType]:
        seen: set[CodeType] = {frame.f_code for frame in sites.frames(2)}
        for _, module in self.session.models.modules():
            code = sites.code_of(type(module).forward)
            if code is not None and not sites.foreign(code.co_filename):
                seen.add(code)
        return seen


def _called(operation: str) -> tuple[str, ...]:
    """What a program calls it."""
    name = operation.lower()
    return _METHODS.get(operation, (name, f"{name}_"))
