"""Units that never get a gradient: rows of the weights of linear and convolutional layers.

Sighting: UnitsDead (at none of the early samples did these rows have a gradient).
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from gradcheck_lint.runtime.check import Check
from gradcheck_lint.runtime.later import Later
from gradcheck_lint.runtime.reading import plain, sampled
from gradcheck_lint.runtime.sampling import EARLY
from gradcheck_lint.runtime.sightings.numbers import UnitsDead
from gradcheck_lint.runtime.structs import struct

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from gradcheck_lint.runtime.observer import Observer
    from gradcheck_lint.runtime.session import Session
    from gradcheck_lint.runtime.sites import Mark

MOST = 60  # layers that are followed for each optimizer
ENOUGH = 8  # rows, for a part of them to mean something
DEAD = 0.9  # of a layer
COLUMNS = 64  # of a row that are looked at, before it is said to be dead


@struct
class _Layer:
    name: str
    ref: weakref.ref[Module]
    alive: Tensor | None = None  # which rows had a gradient so far
    samples: int = 0
    biased: Tensor | None = (
        None  # whether its bias had one: then its units live, and it is what goes into it that is zero
    )
    place: int = 0  # how late backward came to it


class Units(Check):
    """Looks at the early samples only."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.later = Later()
        self._layers: dict[int, list[_Layer]] = {}
        self._looked: dict[int, int] = {}

    def before_update(self, observer: Observer, mark: Mark | None) -> None:
        if self.later:
            self.later.poll()
        step = observer.watched.steps
        index = observer.watched.index
        if step not in EARLY or not sampled(observer) or self._looked.get(index) == step:
            return
        self._looked[index] = step
        layers = self._layers.get(index)
        if layers is None:
            layers = self._layers[index] = self._find(observer)
        last = step == max(EARLY)
        for layer in layers:
            self._look(layer, whole=last)
        if last:
            self._judge(observer, layers, step, mark)
            self._layers[index] = []

    def _find(self, observer: Observer) -> list[_Layer]:
        from torch.nn import Conv1d, Conv2d, Conv3d, Linear

        ids = observer.ids()
        found = []
        for name, module in self.session.models.modules():
            if type(module) in (Linear, Conv1d, Conv2d, Conv3d) and id(module.weight) in ids:
                found.append(_Layer(name, weakref.ref(module)))
        return found if len(found) <= MOST else found[:: -(-len(found) // MOST)]

    @staticmethod
    def _look(layer: _Layer, *, whole: bool) -> None:
        """Note the rows with a gradient in some of their columns; in all columns if `whole` and most seem dead."""
        module = layer.ref()
        grad = getattr(module, "weight", None)
        grad = grad.grad if grad is not None else None
        values = plain(grad) if grad is not None else None
        if values is None or values.dim() < 2:
            return
        rows = values.flatten(1)
        alive = (rows[:, :: max(rows.shape[1] // COLUMNS, 1)] != 0).any(1)
        if layer.alive is not None and layer.alive.shape == alive.shape:
            alive |= layer.alive
        if whole and not (rows.is_cpu and int(alive.sum()) > (1 - DEAD) * len(alive)):
            alive |= (rows != 0).any(1)
        layer.alive = alive
        layer.samples += 1
        bias = getattr(module, "bias", None)
        if whole and bias is not None and bias.grad is not None and (values := plain(bias.grad)) is not None:
            layer.biased = (values != 0).any()

    def _judge(self, observer: Observer, layers: list[_Layer], step: int, mark: Mark | None) -> None:
        known = [layer for layer in layers if layer.alive is not None and layer.samples == len(EARLY)]
        if not known:
            return
        places = {key: place for place, key in enumerate(observer.received)}
        for layer in known:
            layer.place = places.get(id(getattr(layer.ref(), "weight", None)), 0)
        known.sort(key=lambda layer: -layer.place)  # in the order of the forward pass
        names = [layer.name for layer in known]
        rows = [layer.alive.numel() for layer in known if layer.alive is not None]

        def then(values: list[list[float]]) -> None:
            dead = [many - int(part[0]) for many, part in zip(rows, values, strict=False)]
            self._tell(observer, step, mark, names, rows, dead, [bool(part[0]) for part in values[len(rows) :]])

        alive = [layer.alive.sum() for layer in known if layer.alive is not None]
        biased = [alive[0].new_zeros(()) if layer.biased is None else layer.biased for layer in known]
        self.later.read([*alive, *biased], then)

    def _tell(
        self, observer: Observer, step: int, mark: Mark | None, names: list[str], rows: list[int], dead: list[int],
        biased: list[bool],
    ) -> None:  # fmt: skip
        found = [index for index, many in enumerate(rows) if many >= ENOUGH and dead[index] >= DEAD * many]
        whole = sum(dead[index] == many for index, many in enumerate(rows))
        if not found or not self._anything(observer):
            return
        # where no unit has a gradient in the first layers, each is dead because the one behind it is
        first = next((i for i, many in enumerate(rows) if dead[i] < many or biased[i]), len(rows))
        blocker = self._blocker() if first else ""
        if first:  # and those that get nothing but zeros from it are not dead themselves
            found = [i for i in found if i >= first - 1 and not biased[i]] or [first - 1]
        self.session.take(
            UnitsDead(
                observer.scene(mark, step), names=tuple(names[index] for index in found),
                dead=sum(dead[index] for index in found), rows=sum(rows[index] for index in found),
                whole=whole, total=len(rows), blocker=blocker, before=first,
            )
        )  # fmt: skip

    def _blocker(self) -> str:
        """A layer whose weights are all zero: no gradient gets past it. Reads them, where something is amiss."""
        from torch.nn import Conv1d, Conv2d, Conv3d, Linear

        for name, module in self.session.models.modules():
            if isinstance(module, (Linear, Conv1d, Conv2d, Conv3d)):
                values = plain(module.weight)
                if values is not None and not bool(values.any()):
                    return name
        return ""

    @staticmethod
    def _anything(observer: Observer) -> bool:
        """Whether there is any gradient at all; without one the loss is to blame and not the units."""
        return any(
            bool((values != 0).any()) for p in observer.parameters() if p.grad is not None
            and (values := plain(p.grad)) is not None
        )  # fmt: skip

    def ended(self) -> None:
        self.later.finish()
