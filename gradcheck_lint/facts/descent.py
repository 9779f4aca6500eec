"""The frame of a walk back from a value over what made it: never in a circle, and never for ever."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, TypeVar

from gradcheck_lint.source import limits
from gradcheck_lint.source.effort import spend
from gradcheck_lint.source.values import Choice, Thing, Value

A = TypeVar("A")


class Descent(ABC, Generic[A]):
    """One walk back. What is not known is None."""

    def __init__(self) -> None:
        self.under_way: set[int] = set()
        self.left = limits.WAY

    def of(self, value: Value | None) -> A | None:
        spend(2)
        if isinstance(value, Choice):
            return self.each(value.options)
        if not isinstance(value, Thing):
            return None
        if value.serial in self.under_way:
            return self.again()
        self.left -= 1
        if self.left < 0 or len(self.under_way) > limits.WAY // 4:
            return None
        self.under_way.add(value.serial)
        try:
            return self.thing(value)
        finally:
            self.under_way.discard(value.serial)

    def again(self) -> A | None:
        """Of what is met on the way back from itself."""
        return None

    @abstractmethod
    def each(self, values: Sequence[Value]) -> A | None:
        """Of what is one of some values."""

    @abstractmethod
    def thing(self, thing: Thing) -> A | None:
        """Of a thing, by what made it."""
