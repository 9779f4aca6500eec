"""Numbers that were computed from a trained parameter once, and stay what they were while it is trained.

Looked for only where an optimizer holds a handful of numbers, as a temperature is. Sighting: TakenOnce.
"""

from __future__ import annotations

import dis
from typing import TYPE_CHECKING, Any, NamedTuple

from gradcheck_lint.runtime import sites, stores
from gradcheck_lint.runtime.check import Check
from gradcheck_lint.runtime.codes import at_hand, methods
from gradcheck_lint.runtime.cutters import CUTS
from gradcheck_lint.runtime.names import attributes
from gradcheck_lint.runtime.references import Ref
from gradcheck_lint.runtime.sightings.reach import TakenOnce

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType

    from torch import Tensor

    from gradcheck_lint.runtime.observer import Observer
    from gradcheck_lint.runtime.session import Session
    from gradcheck_lint.runtime.sites import Mark

_FIRST, _LATER = 2, 5  # the steps at which it is looked for, and told
_FEW = 2  # tensors of the optimizer
_SMALL = 64  # elements of each
_MAPS = frozenset({"exp", "exp2", "expm1", "sigmoid", "softplus", "square"})
"""What makes of a parameter the number that it stands for."""


class _Taken(NamedTuple):
    parameter: Ref
    version: int
    owner: dict[str, Any]  # the attributes of the object that has both
    attribute: str
    name: str
    mark: Mark
    value: int  # the id of what was taken
    written: int  # its version, where it is a tensor


class ValuesTaken(Check):
    """Compares objects and versions; the bytecode says that the one comes from the other."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._taken: dict[int, _Taken] = {}  # by observer

    def before_update(self, observer: Observer, mark: Mark | None) -> None:
        steps = observer.watched.steps
        if steps == _FIRST:
            parameters = observer.parameters()
            if len(parameters) <= _FEW and all(p.numel() <= _SMALL for p in parameters):
                taken = next((one for p in parameters for one in self._find(p)), None)
                if taken is not None:
                    self._taken[observer.watched.index] = taken
        elif steps == _LATER and (known := self._taken.pop(observer.watched.index, None)) is not None:
            parameter = known.parameter()
            now = known.owner.get(known.attribute)
            if parameter is None or parameter._version == known.version or id(now) != known.value:
                return
            if getattr(now, "_version", 0) == known.written:
                scene = observer.scene(known.mark)
                self.session.take(TakenOnce(scene, names=(known.name,), value=f"self.{known.attribute}"))

    @staticmethod
    def _find(parameter: Tensor) -> Iterator[_Taken]:
        frames = sites.frames(2)
        for thing in {id(v): v for frame in frames for v in list(sites.variables(frame).values())}.values():
            if not any(value is parameter for value in attributes(thing).values()):
                continue
            owner: dict[str, Any] = object.__getattribute__(thing, "__dict__")
            name = next(key for key, value in owner.items() if value is parameter)
            own = list(methods(type(thing)))
            for attribute, value in list(owner.items()):
                number = isinstance(value, float) or (getattr(value, "requires_grad", True) is False)
                if not number or value is parameter:
                    continue
                places = [(code, at) for code in own for at in stores.assignments(code, f".{attribute}")]
                if len(places) != 1 or places[0][0].co_name != "__init__" or not _made_of(*places[0], name):
                    continue
                read = any(attribute in code.co_names for code in own if code is not places[0][0])
                others = (code for code in at_hand(frames) if code not in own)
                elsewhere = any(to != "self" for code in others for _, to in stores.owners_of(code, attribute))
                if read and not elsewhere:
                    version = getattr(value, "_version", 0)
                    mark = places[0][1]
                    ref = Ref(parameter)
                    yield _Taken(ref, parameter._version, owner, attribute, name, mark, id(value), version)


def _made_of(code: CodeType, mark: Mark, name: str) -> bool:
    """Whether what is stored there is a number that the attribute of this name stands for, cut off from it."""
    names = {at.argval for at in dis.get_instructions(code) if stores.line_of(code, at.offset) == mark.line}
    return name in names and bool(names & _MAPS) and bool(names & CUTS)
