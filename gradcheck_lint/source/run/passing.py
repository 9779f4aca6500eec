"""What is let go of when an entry point has been run: the parts that were read from things which only that has made.

A part is the same on every path, so the undo log leaves it where it is. Nothing that is run later can come by the
things of an entry point that is over; its events keep those that a rule may ask for.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager

from gradcheck_lint.source.values import new_serial


class Passing:
    """The parts read since the entry point began, by where the store keeps them."""

    __slots__ = ("_lasting", "_read", "_start")

    def __init__(self) -> None:
        self._start = new_serial()
        self._read: list[tuple[int, str]] = []
        self._lasting: list[tuple[int, int]] = []  # the serials of what was made meanwhile that stays

    def read(self, key: tuple[int, str]) -> None:
        """A part was read for the first time."""
        self._read.append(key)

    @contextmanager
    def lasting(self) -> Iterator[None]:
        """What is made in this block stays: a module's own objects, the instance of a class."""
        begin = new_serial()
        try:
            yield
        finally:
            while self._lasting and self._lasting[-1][0] > begin:
                self._lasting.pop()
            self._lasting.append((begin, new_serial()))

    def over(self) -> Iterator[tuple[int, str]]:
        """Where those are kept that nobody can come by any more."""
        begins = [begin for begin, _ in self._lasting]
        for key in self._read:
            if key[0] > self._start:
                before = bisect_right(begins, key[0]) - 1
                if before < 0 or self._lasting[before][1] < key[0]:
                    yield key
