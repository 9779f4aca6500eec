"""What a program has in hand: the epochs that it counts, and the data that it goes over, as numbers and ids.

Two looks tell what has changed between them, and nothing is kept alive for it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from gradcheck_lint.runtime import sites

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from types import FrameType

_EPOCH = re.compile(r"(?i)epoch|^_?ep$|^e$")
_DEEP = 8  # frames that are looked into
_MANY = 200  # variables of a frame

Name = tuple[int, str]  # the code, and the variable in it


class Hand(NamedTuple):
    epochs: Mapping[Name, int]
    data: Mapping[Name, int]  # ids of tensors and of what holds some

    def next_epoch(self, before: Hand) -> bool:
        """Whether an epoch was counted since then, and no more than one."""
        return any(self.epochs[name] == value + 1 for name, value in before.epochs.items() if name in self.epochs)

    def exchanged(self, before: Hand) -> frozenset[Name]:
        """The variables that stand for other data than then."""
        return frozenset(name for name, found in before.data.items() if self.data.get(name, found) != found)


def look(frames: Iterable[FrameType]) -> Hand:
    epochs: dict[Name, int] = {}
    data: dict[Name, int] = {}
    for depth, frame in enumerate(frames):
        if depth >= _DEEP:
            break
        code = id(frame.f_code)
        for name, value in _variables(frame):
            if type(value) is int:
                if _EPOCH.search(name):
                    epochs[code, name] = value
            elif not name.startswith("__") and _is_data(value):
                data[code, name] = id(value)
    return Hand(epochs, data)


def _variables(frame: FrameType) -> Iterator[tuple[str, Any]]:
    """The variables of a frame, and what the object has that its method runs on."""
    found = sites.variables(frame)
    if len(found) > _MANY:
        return
    yield from list(found.items())
    attributes = getattr(found.get("self"), "__dict__", None)
    if type(attributes) is dict and len(attributes) <= _MANY:
        yield from ((f"self.{name}", value) for name, value in list(attributes.items()))


def _is_data(value: object) -> bool:
    """Whether it is what a training goes over: tensors without a graph, or what gives them. Reads no values."""
    import torch
    from torch.utils.data import DataLoader, Dataset

    if isinstance(value, torch.Tensor):
        return not value.requires_grad and value.ndim > 0
    if type(value) in (list, tuple):
        first = next(iter(value), None)  # type: ignore[call-overload]
        return type(first) in (list, tuple, torch.Tensor) and not getattr(first, "requires_grad", False)
    return isinstance(value, (DataLoader, Dataset)) or type(value).__name__ == "ndarray"
