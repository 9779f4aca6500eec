"""Dataclasses that cost nothing until the first of them is made.

Whoever begins to watch, or lints, imports dozens of them and makes few.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from typing_extensions import dataclass_transform

    T = TypeVar("T")

    @dataclass_transform(eq_default=False, field_specifiers=(field,))
    def struct(cls: type[T]) -> type[T]:
        """A class of mutable data, each of which is equal to itself alone."""

    @dataclass_transform(frozen_default=True, field_specifiers=(field,))
    def frozen(cls: type[T]) -> type[T]:
        """A class of data that can be compared, and do not change."""

else:

    def struct(cls):
        return later(cls, eq=False)

    def frozen(cls):
        return later(cls, frozen=True)


_waiting: dict[type, dict[str, Any]] = {}  # those that are no dataclasses yet, and the options for them
_lock = threading.RLock()  # a signal may come in between


def later(cls: Any, **options: bool) -> Any:
    """Make a class a dataclass when the first of it is made."""

    def first(self: Any, *args: Any, **kwargs: Any) -> None:
        _finish(cls)
        cls.__init__(self, *args, **kwargs)  # the one that has been made by now

    _waiting[cls] = options
    cls.__init__ = first
    return cls


def _finish(cls: type) -> None:
    with _lock:
        for each in reversed(cls.__mro__):  # fields are inherited
            options = _waiting.pop(each, None)
            if options is not None:
                delattr(each, "__init__")
                dataclass(**options)(each)
