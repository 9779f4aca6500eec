"""Counts the work that is done for an entry point or a rule, and stops it where that is out of all proportion.

A unit is about a microsecond: an expression evaluated, a value looked at, a state advanced, an event handed to a
rule. Counting units and not seconds makes the outcome the same on every machine. One thread analyses in a process,
so there is one meter.
"""

from __future__ import annotations

from types import TracebackType

from gradcheck_lint.source import limits


class Stop(Exception):
    """The work that an entry point, or a rule, may take is used up."""


class Meter:
    """How many units are `left`, and how many were `spent` since the process began."""

    __slots__ = ("left", "spent")

    def __init__(self) -> None:
        self.left = 1 << 62
        self.spent = 0


meter = Meter()


def spend(units: int) -> None:
    """Note that some work is about to be done; raises Stop if it is too much."""
    meter.spent += units
    meter.left -= units
    if meter.left < 0:
        raise Stop


class Allowance:
    """Inside of a `with`, so much may be spent; what is around it has its own."""

    __slots__ = ("outer", "units", "used")

    def __init__(self, units: int) -> None:
        self.units = units
        self.used = 0  # known when the block is left

    def __enter__(self) -> Allowance:
        self.outer = meter.left
        meter.left = self.units
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.used = self.units - meter.left
        meter.left = self.outer


class Purse:
    """What files that are analysed together may take in all: each part gets the same, and little once it is empty."""

    def __init__(self, each: int, size: int) -> None:
        self.each = each
        self.all = self.left = max(limits.AT_LEAST * each, size * each // limits.EVERY)

    def allowance(self, more: int = 0) -> Allowance:
        """What the next part gets, with something more for its own size."""
        if self.left > 0:
            return Allowance(self.each + more)
        return Allowance(self.each // limits.SHARE if self.left > -self.all else self.each // limits.LEAST_SHARE)

    def pay(self, units: int) -> None:
        self.left -= units
