"""What the checks that read values share: a plan for each optimizer, the readings under way, and what was told.

A plan says how the parameters of an optimizer are grouped, and gathers what was seen of them. It is built at the first
sample, and anew only when the optimizer holds other tensors, because names and layers take long to find.
"""

from __future__ import annotations

import math
from dataclasses import field
from typing import TYPE_CHECKING

from gradcheck_lint.runtime import reading
from gradcheck_lint.runtime.checks.numbers.history import Change, History
from gradcheck_lint.runtime.later import Later
from gradcheck_lint.runtime.layers import layers
from gradcheck_lint.runtime.structs import struct

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from gradcheck_lint.runtime.observer import Observer
    from gradcheck_lint.runtime.session import Session
    from gradcheck_lint.runtime.sighting import Sighting
    from gradcheck_lint.runtime.sites import Mark


@struct
class Plan:
    """How the parameters of one optimizer are looked at, and what was seen. Numbers are places in its order."""

    ids: list[int]
    names: list[str]
    layers: list[str]
    alike: list[list[int]]  # by device and dtype
    history: History = field(default_factory=History)
    sample: int = 0  # the step of the latest
    fed: list[int] = field(default_factory=list)  # the parameters whose gradients were read at it
    total: float = math.nan  # the norm of all gradients, as far as it is known
    finite: tuple[int, ...] = ()  # the latest two steps whose gradients were seen to be finite


class Plans:
    """Those of all optimizers of a session. All readings go through one `later`, so that they keep their order."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.later = Later()
        self._plans: dict[int, Plan] = {}
        self._told: set[tuple[int, type[Sighting], object]] = set()

    def of(self, observer: Observer) -> Plan | None:
        """The plan of an optimizer, if there was a sample."""
        return self._plans.get(observer.watched.index)

    def renewed(self, observer: Observer, parameters: Sequence[Tensor]) -> Plan:
        """The plan for the parameters that the optimizer holds now."""
        ids = list(map(id, parameters))
        plan = self.of(observer)
        if plan is None or plan.ids != ids:
            names = [observer.name(parameter) for parameter in parameters]
            plan = Plan(ids, names, layers(names), reading.alike(parameters))
            self._plans[observer.watched.index] = plan
        return plan

    def whose(self, observer: Observer) -> str:
        """What the series call an optimizer: its name, with a number if an earlier one has the same."""
        index, name = observer.watched.index, observer.label
        others = [o for o in self.session.observers.values() if o.watched.index < index and o.label == name]
        return f"{name} {len(others) + 1}" if others else name

    # Telling

    def is_new(self, observer: Observer, kind: type[Sighting], key: object = None) -> bool:
        """Whether the same was not told of this optimizer before; from now on it was. key: what makes it the same."""
        told = observer.watched.index, kind, key
        new = told not in self._told
        self._told.add(told)
        return new

    def told(self, observer: Observer, *kinds: type[Sighting]) -> bool:
        """Whether one of these was told of this optimizer."""
        return any((observer.watched.index, kind, None) in self._told for kind in kinds)

    def changed(self, observer: Observer, mark: Mark | None, step: int, changes: list[Change]) -> None:
        """Tell each kind of change once, and again when it is extreme: of the layer in which it is worst."""
        for kind in dict.fromkeys(change.kind for change in changes):
            alike = [change for change in changes if change.kind == kind]
            worst = max(alike, key=lambda change: abs(math.log((change.now or 1e-30) / (change.usual or 1e-30))))
            if worst.always:
                worst = min(alike, key=lambda change: change.now)
            # a parameter before a norm may get nothing but rounding errors; a chain of layers does not
            extreme = worst.extreme and not (worst.always and len(alike) == 1)
            if self.is_new(observer, kind, extreme):
                self.session.take(
                    kind(
                        observer.scene(mark, step), names=(worst.layer,), now=worst.now, usual=worst.usual,
                        extreme=extreme, always=worst.always, layers=len(alike),
                    )
                )  # fmt: skip
