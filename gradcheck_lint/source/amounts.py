"""How many: what a number is a product of, so that two expressions that must come to the same can be told.

The length of a schedule and the number of rounds of a loop are seldom written down as numbers: they are
`args.epochs * len(loader)` in one place, and two loops in another. An `Amount` is a fraction times the powers of what
the code does not tell: values (`args.epochs`) and lengths (`len(loader)`), each by the object that it is. Rounding is
left out of account: `len(loader) // k` is `len(loader)` divided by `k`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from gradcheck_lint.source.natures import Opaque, Pass
from gradcheck_lint.source.values import Choice, Constant, Items, Thing, Value, Via

MOST = 8  # factors: who multiplies more has no length in mind
HUGE = 10**12


class Atom(NamedTuple):
    """A value that is not known (or the length of one), by the serial of the object."""

    serial: int
    length: bool


@dataclass(frozen=True, slots=True, repr=False)
class Amount(Via):
    """`up / down` times the powers of atoms, and `more` besides, as in `epochs + 1`."""

    up: int
    down: int = 1
    powers: tuple[tuple[Atom, int], ...] = ()
    more: int = 0

    @property
    def number(self) -> int | None:
        """The number that it is, if the code tells that."""
        return self.up // self.down + self.more if not self.powers else None

    @property
    def atoms(self) -> frozenset[Atom]:
        """What it is a multiple of."""
        return frozenset(atom for atom, power in self.powers if power > 0)


@dataclass(frozen=True, slots=True, repr=False)
class Rounds(Via):
    """`range(n)`: as many items as `amount` says, if that is known."""

    amount: Amount | None


class Number(Via):
    """It is a number, and another one in each round."""

    __slots__ = ()


class Reckoned(Constant):
    """A number that arithmetic made of numbers.

    Its value is not kept, as that of an attribute is another one in each round of a loop; what it comes to is.
    """

    __slots__ = ("via",)

    def __init__(self, via: Amount) -> None:
        super().__init__(...)
        self.via = via


ONE = Amount(1)


def amount(value: Value | None) -> Amount | None:
    """How many a value says, if it may be a number."""
    if isinstance(value, Reckoned):
        return value.via
    if isinstance(value, Constant):
        return Amount(value.value) if type(value.value) is int and abs(value.value) < HUGE else None
    if not isinstance(value, Thing):
        return None
    if isinstance(value.via, Amount):
        return value.via
    if not isinstance(value.what, Opaque) or value.summary or any(isinstance(t.what, Pass) for t in value.deps):
        return None
    return Amount(1, 1, ((Atom(value.serial, False), 1),))


def length(value: Value | None) -> Amount | None:
    """How many items a value has."""
    seen = 0
    while isinstance(value, Items):
        seen += 1
        if value.complete:
            return Amount(len(value.items))
        if value.over is None or seen > MOST:
            return Amount(1, 1, ((Atom(value.serial, True), 1),))
        value = value.over
    if not isinstance(value, Thing) or value.summary:
        return None
    if isinstance(value.via, Rounds):
        return value.via.amount
    return Amount(1, 1, ((Atom(value.core.serial, True), 1),)) if isinstance(value.what, Opaque) else None


def times(one: Amount | None, other: Amount | None) -> Amount | None:
    """The product."""
    return _multiplied(one, other, 1)


def divided(one: Amount | None, other: Amount | None) -> Amount | None:
    """The quotient, rounding left out."""
    return None if other is None or not other.up else _multiplied(one, other, -1)


def _multiplied(one: Amount | None, other: Amount | None, sign: int) -> Amount | None:
    if one is None or other is None:
        return None
    if one.more or other.more:
        return None
    powers = dict(one.powers)
    for atom, power in other.powers:
        powers[atom] = powers.get(atom, 0) + sign * power
    up, down = (one.up * other.up, one.down * other.down) if sign > 0 else (one.up * other.down, one.down * other.up)
    if down < 0:
        up, down = -up, -down
    shared = math.gcd(up, down) or 1
    kept = tuple(sorted((atom, power) for atom, power in powers.items() if power))
    if len(kept) > MOST or abs(up) > HUGE or down > HUGE:
        return None
    return Amount(up // shared, down // shared, kept)


def added(one: Amount | None, other: Amount | None, sign: int) -> Amount | None:
    """The sum, if one of the two is a plain number."""
    if one is None or other is None or other.powers or other.down != 1:
        if sign > 0 and one is not None and not one.powers and other is not None and other.powers:
            return added(other, one, 1)
        return None
    number = other.up + other.more
    if not one.powers and one.down == 1:
        return Amount(one.up + one.more + sign * number)
    return Amount(one.up, one.down, one.powers, one.more + sign * number)


def combined(op: str, values: list[Value]) -> Amount | None:
    """What arithmetic makes of two numbers."""
    if len(values) != 2 or any(isinstance(value, Choice) for value in values):
        return None
    if op == "*":
        return times(amount(values[0]), amount(values[1]))
    if op in ("/", "//"):
        return divided(amount(values[0]), amount(values[1]))
    return added(amount(values[0]), amount(values[1]), 1 if op == "+" else -1)


def rounds(first: Value | None, last: Value | None) -> Amount | None:
    """How many `range(first, last)` has: one that starts at what is not known goes on where another run left off."""
    end = amount(last)
    begin = amount(first)
    if begin is not None and begin.number is not None:
        return added(end, begin, -1)
    return end


def product(amounts: list[Amount | None]) -> Amount | None:
    """All of them multiplied."""
    found: Amount | None = ONE
    for each in amounts:
        found = times(found, each)
    return found
