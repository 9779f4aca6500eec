"""Which tensors a backward reaches, and what has cut a loss off."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradcheck_lint.laws.answer import MAYBE, NO, YES, Answer
from gradcheck_lint.laws.reach import Cut, Reached, cut_by, reached, trains


@pytest.mark.parametrize(
    ("met", "whole", "known", "strange", "answer"),
    [
        (True, True, True, True, YES),
        (True, False, False, True, YES),
        (False, True, True, True, NO),
        (False, True, False, True, MAYBE),  # the optimizer may have more
        (False, False, True, True, MAYBE),  # the loss may lead to more
        (False, False, True, False, YES),
    ],
)
def test_trains(met: bool, whole: bool, known: bool, strange: bool, answer: Answer) -> None:
    assert trains(met=met, whole=whole, known=known, strange=strange) is answer


LEAVES = st.frozensets(st.integers(0, 5))


@given(loss=LEAVES, held=LEAVES, seen=LEAVES, looked=LEAVES)
def test_what_a_part_shows_never_contradicts_the_whole(
    loss: frozenset[int], held: frozenset[int], seen: frozenset[int], looked: frozenset[int]
) -> None:
    """A witness that knows some of the leaves and some of what is held, against one that knows all."""
    truth = trains(met=bool(loss & held), whole=True, known=True, strange=True)
    some_of_loss, some_held = loss & seen, held & looked
    said = trains(met=bool(some_of_loss & some_held), whole=some_of_loss == loss, known=some_held == held, strange=True)
    assert said in (truth, MAYBE)


def test_reached() -> None:
    for wanted, fed, flat, zero in product((False, True), repeat=4):
        found = reached(wanted=wanted, fed=fed, flat=flat, zero=zero)
        if not wanted:
            assert found is Reached.UNWANTED
        elif not fed:
            assert found is Reached.NEVER
        else:
            assert found is (Reached.FLAT if flat and zero else Reached.FED)


@pytest.mark.parametrize(
    ("off", "inference", "decorated", "nearby", "cut"),
    [
        (True, True, True, True, Cut.OFF),
        (False, True, True, True, Cut.INFERENCE),
        (False, False, True, True, Cut.DECORATED),
        (False, False, False, True, Cut.DETACHED),
        (False, False, False, False, Cut.NOTHING),
    ],
)
def test_the_nearest_cause_has_cut_it_off(off: bool, inference: bool, decorated: bool, nearby: bool, cut: Cut) -> None:
    assert cut_by(off=off, inference=inference, decorated=decorated, nearby=nearby) is cut
