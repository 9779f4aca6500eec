"""How many: what a number is made of, so that two expressions that must come to the same can be told.

The length of a schedule and the number of rounds of a loop are seldom written down as numbers: they are
`args.epochs * len(loader)` in one place, and two loops in another. An `Amount` is a sum of products of what the code
does not tell: values (`args.epochs`) and lengths (`len(loader)`), each by the object that it is. Rounding is left out:
`len(loader) // k` is `len(loader)` divided by `k`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from gradcheck_lint.source.natures import Opaque, Pass
from gradcheck_lint.source.values import Constant, Items, Thing, Value, Via

MOST = 8  # factors, and terms: who multiplies more has no length in mind
HUGE = 10**12


class Atom(NamedTuple):
    """A value that is not known (or the length of one), by the serial of the object."""

    serial: int
    length: bool


Powers = tuple[tuple[Atom, int], ...]
"""Atoms and how often they are factors: less than 0 times for divisors."""


class Term(NamedTuple):
    """`up / down` times the powers of atoms."""

    powers: Powers
    up: int
    down: int


@dataclass(frozen=True, slots=True, repr=False)
class Amount(Via):
    """A sum of terms, in order, none of which is 0."""

    terms: tuple[Term, ...]

    @property
    def number(self) -> int | None:
        """The number that it is, if the code tells that, rounded down."""
        if not self.terms:
            return 0
        first = self.terms[0]
        return first.up // first.down if len(self.terms) == 1 and not first.powers else None

    @property
    def share(self) -> float | None:
        """The number that it is, not rounded."""
        first = self.terms[0] if self.terms else Term((), 0, 1)
        return first.up / first.down if len(self.terms) < 2 and not first.powers else None

    @property
    def atoms(self) -> frozenset[Atom]:
        """What is a factor of some term."""
        return frozenset(atom for term in self.terms for atom, power in term.powers if power > 0)


def whole(number: int) -> Amount:
    """A number."""
    return Amount((Term((), number, 1),) if number else ())


def _alone(serial: int, *, length: bool) -> Amount:
    return Amount((Term(((Atom(serial, length), 1),), 1, 1),))


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


ONE = whole(1)


def amount(value: Value | None) -> Amount | None:
    """How many a value says, if it may be a number."""
    if isinstance(value, Reckoned):
        return value.via
    if isinstance(value, Constant):
        return whole(value.value) if type(value.value) is int and abs(value.value) < HUGE else None
    if not isinstance(value, Thing):
        return None
    if isinstance(value.via, Amount):
        return value.via
    if not isinstance(value.what, Opaque) or value.summary:
        return None
    for thing in value.deps:
        if isinstance(thing.what, Pass):
            return None
    return _alone(value.serial, length=False)


def length(value: Value | None) -> Amount | None:
    """How many items a value has."""
    seen = 0
    while isinstance(value, Items):
        seen += 1
        if value.complete:
            return whole(len(value.items))
        if value.over is None or seen > MOST:
            return _alone(value.serial, length=True)
        value = value.over
    if not isinstance(value, Thing) or value.summary:
        return None
    if isinstance(value.via, Rounds):
        return value.via.amount
    return _alone(value.core.serial, length=True) if isinstance(value.what, Opaque) else None


def times(one: Amount | None, other: Amount | None) -> Amount | None:
    """The product."""
    if one is None or other is None or len(one.terms) * len(other.terms) > MOST:
        return None
    return _sum([_product(a, b) for a in one.terms for b in other.terms])


def divided(one: Amount | None, other: Amount | None) -> Amount | None:
    """The quotient by a product, rounding left out."""
    if one is None or other is None or len(other.terms) != 1:
        return None
    powers, up, down = other.terms[0]
    inverse = Term(tuple((atom, -power) for atom, power in powers), down if up > 0 else -down, abs(up))
    return _sum([_product(term, inverse) for term in one.terms])


def added(one: Amount | None, other: Amount | None, sign: int) -> Amount | None:
    """The sum, or the difference."""
    if one is None or other is None:
        return None
    return _sum([*one.terms, *(Term(powers, sign * up, down) for powers, up, down in other.terms)])


def _product(one: Term, other: Term) -> Term:
    if not one.powers or not other.powers:
        return Term(one.powers or other.powers, one.up * other.up, one.down * other.down)
    powers = dict(one.powers)
    for atom, power in other.powers:
        powers[atom] = powers.get(atom, 0) + power
    kept = tuple(sorted((atom, power) for atom, power in powers.items() if power))
    return Term(kept, one.up * other.up, one.down * other.down)


def _sum(terms: list[Term]) -> Amount | None:
    """Terms with the same powers put together; None if it is more than anybody means."""
    found: dict[Powers, tuple[int, int]] = {}
    for powers, up, down in terms:
        a, b = found.get(powers, (0, 1))
        up, down = a * down + up * b, b * down
        shared = math.gcd(up, down) or 1
        if len(powers) > MOST or abs(up) // shared > HUGE or down // shared > HUGE:
            return None
        found[powers] = up // shared, down // shared
    kept = sorted(Term(powers, up, down) for powers, (up, down) in found.items() if up)
    return Amount(tuple(kept)) if len(kept) <= MOST else None


def combined(op: str, values: list[Value]) -> Amount | None:
    """What arithmetic makes of two numbers."""
    if len(values) != 2:
        return None
    one = amount(values[0])
    other = amount(values[1]) if one is not None else None  # a tensor is none
    if op in ("*", "/") and one is None and isinstance(values[0], Constant):
        other = amount(values[1])
        one = _share(values[0], other)
    elif op in ("*", "/") and other is None and one is not None and isinstance(values[1], Constant):
        other = _share(values[1], one)
    if one is None or other is None:
        return None
    if op == "*":
        return times(one, other)
    if op in ("/", "//"):
        return divided(one, other)
    return added(one, other, 1 if op == "+" else -1)


def _share(value: Constant, of: Amount | None) -> Amount | None:
    """A share of what is not known as a number: 1/10 for the 0.1 of `0.1 * total`."""
    if of is None or not of.atoms or type(value.value) is not float or not 0 < value.value < HUGE:
        return None
    share = Fraction(repr(value.value))
    return Amount((Term((), share.numerator, share.denominator),)) if share.denominator < HUGE else None


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
