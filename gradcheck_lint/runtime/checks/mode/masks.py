"""Elements whose gradient the program sets to 0 at each step, and that weight decay or momentum moves all the same.

Sighting: MaskedMoves. A gradient that somebody has written to shows by its version; values are read of those alone, in
two steps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from gradcheck_lint.runtime import sites, stores
from gradcheck_lint.runtime.call import Call
from gradcheck_lint.runtime.check import Check
from gradcheck_lint.runtime.reading import plain
from gradcheck_lint.runtime.references import Place
from gradcheck_lint.runtime.sightings.mode import MaskedMoves
from gradcheck_lint.runtime.sites import resolve

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from gradcheck_lint.runtime.observer import Observer
    from gradcheck_lint.runtime.record import Event
    from gradcheck_lint.runtime.session import Session
    from gradcheck_lint.runtime.sites import Mark

_LAST = 4  # the step of an optimizer after which no more is looked for
_LARGE = 4_000_000  # elements; a parameter of more is not compared
_MOST = 8  # parameters of which values are kept


class _Masked(NamedTuple):
    """A parameter some elements of whose gradient were set to 0 between backward and the step."""

    place: Place
    where: Tensor  # which
    values: Tensor  # of all of it, before the step


class Masks(Check):
    """Looks at versions in the first steps; at values where one has changed by the hand of the program."""

    hears = frozenset({Call.CLIP, Call.SCALER_UNSCALE})

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._versions: dict[
            int, tuple[int, int]
        ] = {}  # by parameter: the gradient that backward left, and its version
        self._suspected: dict[int, Tensor | None] = {}  # by parameter: where backward has left something else than 0
        self._masks: dict[int, Tensor] = {}  # by parameter: what was 0 at the step before
        self._kept: dict[int, list[_Masked]] = {}  # by observer
        self._told: set[int] = set()

    def call_begins(self, kind: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._versions.clear()  # what changes them now is no mask

    def backward_ended(self, event: Event, touched: Sequence[Observer]) -> None:
        for observer in touched:
            if observer.watched.steps >= _LAST or not _goes_on(observer):
                continue
            for parameter in observer.parameters():
                grad = parameter.grad
                if grad is None or grad.is_sparse:
                    continue
                self._versions[id(parameter)] = (id(grad), grad._version)
                if id(parameter) in self._suspected and (values := _small(grad)) is not None:
                    self._suspected[id(parameter)] = values != 0

    def before_update(self, observer: Observer, mark: Mark | None) -> None:
        self._judge(observer)
        if observer.watched.steps > _LAST:
            self._forget(observer)
            return
        kept: list[_Masked] = []
        for parameter in observer.parameters() if self._versions else ():
            key, grad = id(parameter), parameter.grad
            known = self._versions.pop(key, None)
            if grad is None or known is None or known[0] != id(grad) or known[1] == grad._version:
                continue
            if key not in self._suspected and len(self._suspected) >= _MOST:
                continue
            there = self._suspected.setdefault(key, None)
            values, now = _small(parameter), _small(grad)
            if there is None or now is None or values is None or there.shape != now.shape:
                continue
            where = now == 0
            before = self._masks.get(key)
            self._masks[key] = where
            again = before is not None and bool((before == where).all())
            where = where & there  # what was not reached is moved as well, which is nobody's doing
            if again and bool(where.any()) and bool((now != 0).any()):
                kept.append(_Masked(Place(observer, parameter), where, values.clone()))
        if kept:
            self._kept[observer.watched.index] = kept

    def _judge(self, observer: Observer) -> None:
        """At the next step: until then the program may have written the old values back."""
        for masked in self._kept.pop(observer.watched.index, []):
            parameter = masked.place()
            values = _small(parameter) if parameter is not None else None
            if parameter is None or values is None or values.shape != masked.values.shape:
                continue
            moved = int(((values != masked.values) & masked.where).sum())
            if moved and observer.watched.index not in self._told:
                self._told.add(observer.watched.index)
                self._tell(observer, parameter, moved, int(masked.where.sum()))

    def _tell(self, observer: Observer, parameter: Tensor, moved: int, held_back: int) -> None:
        group = next((g for g in observer.groups() if any(p is parameter for p in g["params"])), {})
        marks = (stores.uses(frame.f_code, ("grad",)) for frame in sites.frames(2))
        made = resolve(next((mark for mark in marks if mark is not None), None))
        self.session.take(
            MaskedMoves(
                observer.scene(observer.mark_of("step")), names=(observer.name(parameter),), made=made,
                decay=float(group.get("weight_decay", 0)), momentum=_has_momentum(group), moved=moved,
                held_back=held_back,
            )
        )  # fmt: skip

    def _forget(self, observer: Observer) -> None:
        if self._suspected or self._masks:
            for key in observer.ids():
                self._suspected.pop(key, None)
                self._masks.pop(key, None)


def _goes_on(observer: Observer) -> bool:
    """Whether the optimizer moves what has a gradient of 0."""
    return any(group.get("weight_decay", 0) or _has_momentum(group) for group in observer.groups())


def _has_momentum(group: dict[str, Any]) -> bool:
    return bool(group.get("momentum", 0) or "betas" in group)


def _small(tensor: Tensor) -> Tensor | None:
    values = plain(tensor) if tensor.numel() <= _LARGE else None
    return values.detach() if values is not None else None
