"""Numbers as products of what is not known."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gradcheck_lint.source import amounts
from gradcheck_lint.source.amounts import Amount, Reckoned, whole
from gradcheck_lint.source.joins import join
from gradcheck_lint.source.natures import Module, Opaque
from gradcheck_lint.source.tree import Container
from gradcheck_lint.source.values import Constant, Items, Thing, Value

numbers = st.integers(1, 1000)


def unknown() -> Thing:
    return Thing(Opaque(), "n")


@given(numbers, numbers, numbers)
def test_products_do_not_depend_on_the_order(a: int, b: int, c: int) -> None:
    n, loader = amounts.amount(unknown()), amounts.length(unknown())
    known = whole(a)
    assert amounts.product([n, known, loader]) == amounts.product([loader, n, known])
    assert amounts.divided(amounts.times(n, whole(b * c)), whole(c)) == amounts.times(n, whole(b))


def test_a_value_and_its_length_are_not_the_same_number() -> None:
    thing = unknown()
    assert amounts.amount(thing) != amounts.length(thing)
    assert amounts.amount(thing) == amounts.amount(thing)
    assert amounts.amount(thing) != amounts.amount(unknown())


def test_what_is_no_number_has_no_amount() -> None:
    for value in (Constant("4"), Constant(True), Constant(0.5), Thing(Module(), "net"), None):
        assert amounts.amount(value) is None
    assert amounts.amount(Thing(Opaque(), "one of several", summary=True)) is None


def test_one_more_and_one_less() -> None:
    n = amounts.amount(unknown())
    assert amounts.rounds(Constant(1), _sum(n)) == n
    assert amounts.times(amounts.added(n, whole(1), 1), whole(2)) == amounts.added(
        amounts.times(whole(2), n), whole(2), 1
    )


@given(numbers, numbers)
def test_sums_are_taken_apart_and_put_together(a: int, b: int) -> None:
    n, m = amounts.amount(unknown()), amounts.amount(unknown())
    rest = amounts.added(n, m, -1)
    assert amounts.added(rest, m, 1) == n
    assert amounts.added(rest, rest, -1) == whole(0)
    assert amounts.times(rest, whole(a)) == amounts.added(amounts.times(n, whole(a)), amounts.times(m, whole(a)), -1)
    assert amounts.divided(amounts.times(n, whole(a)), whole(b)) == amounts.times(
        n, amounts.divided(whole(a), whole(b))
    )
    assert amounts.divided(n, rest) is None


def _sum(n: Amount | None) -> Value:
    return Thing(Opaque(), "n + 1", via=amounts.added(n, whole(1), 1))


def test_the_length_of_what_goes_over_something_is_its_length() -> None:
    source = unknown()
    made = Items(Container.LIST, [Constant(1)], False)
    own = amounts.length(made)
    made.over = source
    assert amounts.length(made) == amounts.length(source) != own
    assert amounts.length(Items(Container.LIST, [Constant(1)] * 3)) == whole(3)


def test_numbers_that_come_to_something_else_stay_apart() -> None:
    six, seven = Reckoned(whole(6)), Reckoned(whole(7))
    assert join(six, Reckoned(whole(6))) is six
    assert amounts.amount(join(six, seven)) != whole(6)
    assert amounts.combined("*", [Constant(2), Constant(3)]) == whole(6)
    assert amounts.combined("/", [Constant(3), Constant(0)]) is None
