"""Ways to mean a tensor without keeping it, that are in nobody's way.

torch refuses to swap what is in a tensor (`torch.utils.swap_tensors`; so may modules do that are converted or loaded)
if anything refers to the tensor weakly. `Place` does without; a `Ref` means the object, whatever is in it, and so torch
is not shown it while something is watched. When the watching ends there is none left.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from gradcheck_lint.runtime.observer import Observer


class Place:
    """Where an optimizer holds a parameter; called, it gives the parameter, or None if it is not there any more."""

    __slots__ = ("_group", "_id", "_index", "_observer")

    def __init__(self, observer: Observer, parameter: Tensor) -> None:
        self._observer = observer
        self._id = id(parameter)
        self._group, self._index = next(
            (number, index)
            for number, group in enumerate(observer.groups())
            for index, other in enumerate(group["params"])
            if other is parameter
        )

    def __call__(self) -> Tensor | None:
        groups = self._observer.groups()
        held: list[Tensor] = groups[self._group]["params"] if self._group < len(groups) else []
        parameter = held[self._index] if self._index < len(held) else None
        return parameter if id(parameter) == self._id else None


class Ref(weakref.ref["Tensor"]):
    """A weak reference to a tensor that no optimizer need hold."""

    __slots__ = ()


class Others:
    """Stands for the module `weakref` where torch asks it who refers to a tensor: everybody but us."""

    def __getattr__(self, name: str) -> Any:
        return getattr(weakref, name)

    @staticmethod
    def getweakrefs(thing: Any) -> list[Any]:
        return [ref for ref in weakref.getweakrefs(thing) if not isinstance(ref, Ref)]
