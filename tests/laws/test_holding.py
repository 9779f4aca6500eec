"""Who holds the same tensors, and what becomes of one that was exchanged, tied, or held by nobody."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradcheck_lint.laws.answer import MAYBE, NO, YES, Answer
from gradcheck_lint.laws.holding import (
    Exchange,
    Kind,
    Misfit,
    Missing,
    Place,
    Tied,
    Where,
    exchanged,
    misfit,
    missing,
    shares,
    shares_ids,
    tied,
    touched,
)

IDS = st.frozensets(st.integers(0, 5))


@pytest.mark.parametrize(
    ("some", "covered", "known", "answer"),
    [
        (True, True, True, YES),
        (True, False, True, MAYBE),
        (True, True, False, YES),  # what was seen does not depend on what else there may be
        (True, False, False, MAYBE),
        (False, False, True, NO),
        (False, False, False, MAYBE),
    ],
)
def test_shares(some: bool, covered: bool, known: bool, answer: Answer) -> None:
    assert shares(some=some, covered=covered, known=known) is answer


@given(IDS, IDS)
def test_ids_are_shared_wholly_in_part_or_not_at_all(one: frozenset[int], other: frozenset[int]) -> None:
    left = len(other - one)
    expected = NO if left == len(other) else MAYBE if left else YES
    assert shares_ids(one, other) is expected


@given(IDS, IDS, IDS)
def test_who_covers_one_that_covers_another_covers_that_too(
    one: frozenset[int], other: frozenset[int], third: frozenset[int]
) -> None:
    if shares_ids(one, other) is YES and shares_ids(other, third) is YES:
        assert shares_ids(one, third) is YES


@given(IDS, IDS)
def test_that_something_is_shared_is_said_from_both_sides(one: frozenset[int], other: frozenset[int]) -> None:
    assert (shares_ids(one, other) is NO) == (shares_ids(other, one) is NO)


@given(st.lists(st.sampled_from(Answer)), st.booleans())
def test_touched(parts: list[Answer], known: bool) -> None:
    found = touched(parts, known=known)
    if found is NO:
        assert known
        assert set(parts) <= {NO}
    if found is YES:
        assert YES in parts
    if not known:
        assert found is not NO


@pytest.mark.parametrize(
    ("held", "lost", "fed", "what"),
    [
        (False, True, True, Exchange.FOREIGN),
        (False, False, False, Exchange.FOREIGN),
        (True, False, False, Exchange.SETTLED),
        (True, True, False, Exchange.WAITING),
        (True, True, True, Exchange.LOST),
    ],
)
def test_exchanged(held: bool, lost: bool, fed: bool, what: Exchange) -> None:
    assert exchanged(held=held, lost=lost, fed=fed) is what


A, B, C = 1, 2, 3


@pytest.mark.parametrize(
    ("places", "what"),
    [
        ([], Tied.WHOLE),
        ([Place(A, 10, True, True), Place(A, 10, True, True)], Tied.WHOLE),
        ([Place(A, 10, True, True), Place(B, 10, False, True)], Tied.WHOLE),  # two views of one memory
        ([Place(A, 10, False, True), Place(B, 20, False, True)], Tied.WAITING),
        ([Place(A, 10, True, False), Place(B, 20, True, False)], Tied.WAITING),
        ([Place(A, 10, True, True), Place(B, 20, False, False)], Tied.IDLE),
        ([Place(A, 10, True, True), Place(B, 20, False, True)], Tied.BROKEN),
        ([Place(A, 10, True, True), Place(B, 20, True, True), Place(C, 30, True, False)], Tied.BROKEN),
    ],
)
def test_tied(places: list[Place], what: Tied) -> None:
    assert tied(places) is what


PLACES = st.lists(st.builds(Place, st.integers(0, 3), st.integers(0, 3), st.booleans(), st.booleans()))


@given(PLACES)
def test_a_tie_is_broken_only_where_two_tensors_with_gradients_lie_apart(places: list[Place]) -> None:
    if tied(places) is Tied.BROKEN:
        fed = {place.tensor for place in places if place.fed}
        assert len(fed) > 1
        assert len({place.memory for place in places}) > 1


@pytest.mark.parametrize("where", [where for where in Where if where is not Where.REGISTERED])
def test_where_it_lies_says_more_than_all_else(where: Where) -> None:
    found = {
        missing(where, parameter=parameter, listed=listed, fresh=fresh, replaces=replaces)
        for parameter, listed, fresh, replaces in product((False, True), repeat=4)
    }
    assert found == {Missing(where.value)}


@pytest.mark.parametrize(
    ("parameter", "listed", "fresh", "replaces", "why"),
    [
        (False, True, True, True, Missing.TENSOR),
        (True, True, True, True, Missing.LIST),
        (True, False, True, True, Missing.REPLACED),
        (True, False, False, True, Missing.LEFT_OUT),  # it was loaded, so somebody knows of it
        (True, False, True, False, Missing.LEFT_OUT),
    ],
)
def test_missing_from_where_it_is_registered(
    parameter: bool, listed: bool, fresh: bool, replaces: bool, why: Missing
) -> None:
    found = missing(Where.REGISTERED, parameter=parameter, listed=listed, fresh=fresh, replaces=replaces)
    assert found is why


KINDS = st.builds(Kind, st.sampled_from([(), (2,), (2, 3)]), st.sampled_from(["cpu", "cuda:0"]), st.sampled_from("ab"))


@given(KINDS, KINDS)
def test_what_does_not_fit_differs_and_in_nothing_graver(one: Kind, other: Kind) -> None:
    order = [Misfit.SHAPE, Misfit.DEVICE, Misfit.DTYPE]
    same = [one.shape == other.shape, one.device == other.device, one.dtype == other.dtype]
    found = misfit(one, other)
    assert found is (order[same.index(False)] if False in same else None)
    assert misfit(other, one) is found
