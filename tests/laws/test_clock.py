"""How often a schedule moves and how long it lasts, whose rate it moves, and what is built anew too often."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradcheck_lint.laws import clock
from gradcheck_lint.laws.answer import MAYBE, NO, YES, Answer
from gradcheck_lint.laws.clock import (
    Built,
    Pace,
    Rates,
    Reach,
    Turn,
    cold,
    counted,
    elsewhere,
    left,
    loses,
    pace,
    rebuilt,
)


@pytest.mark.parametrize(
    ("counts", "moves", "what"),
    [
        (Turn.STEP, Turn.STEP, Pace.RIGHT),
        (Turn.EPOCH, Turn.EPOCH, Pace.RIGHT),
        (Turn.STEP, Turn.EPOCH, Pace.SLOW),
        (Turn.EPOCH, Turn.STEP, Pace.FAST),
        (Turn.EPOCH, Turn.BATCH, Pace.FAST),
        (Turn.STEP, Turn.BATCH, Pace.FAST),
        (Turn.BATCH, Turn.STEP, Pace.SLOW),
    ],
)
def test_pace(counts: Turn, moves: Turn, what: Pace) -> None:
    assert pace(counts=counts, moves=moves) is what


@given(epochs=st.integers(1, 20), batches=st.integers(1, 20))
def test_a_schedule_for_all_steps_that_moves_once_per_epoch_is_slow(epochs: int, batches: int) -> None:
    steps = epochs * batches
    assert counted(total=steps, steps=steps, moves=steps) is Pace.RIGHT
    assert counted(total=steps, steps=steps, moves=epochs) is (Pace.SLOW if batches > 1 else Pace.RIGHT)


@given(total=st.integers(1, 100), steps=st.integers(1, 100), moves=st.integers(0, 100))
def test_a_schedule_that_was_made_for_another_number_is_left_alone(total: int, steps: int, moves: int) -> None:
    if total != steps:
        assert counted(total=total, steps=steps, moves=moves) is Pace.RIGHT


@given(st.sampled_from(Answer))
def test_a_schedule_is_elsewhere_only_if_its_own_optimizer_never_steps(shared: Answer) -> None:
    assert elsewhere(steps=True, shared=shared) is NO
    assert elsewhere(steps=False, shared=shared) is shared


def test_left() -> None:
    assert left(stepped=False, moves=clock.ALONE, others=clock.ALONE + 1, followed=False)
    assert not left(stepped=True, moves=clock.ALONE, others=clock.ALONE + 1, followed=False)
    assert not left(stepped=False, moves=clock.ALONE - 1, others=clock.ALONE + 1, followed=False)
    assert not left(stepped=False, moves=clock.ALONE, others=clock.ALONE, followed=False)
    assert not left(stepped=False, moves=clock.ALONE, others=clock.ALONE + 1, followed=True)


@pytest.mark.parametrize(
    ("factor", "times", "gone"),
    [(0.1, 30, True), (0.95, 300, True), (0.999, 900, False), (0.1, 3, False), (1.0, 10**9, False)],
)
def test_a_rate_vanishes(factor: float, times: float, gone: bool) -> None:
    assert clock.vanishes(factor=factor, times=times) is gone


@pytest.mark.parametrize(
    ("planned", "moves", "how"), [(4, 4, Reach.TOGETHER), (4, 8, Reach.PAST), (8, 4, Reach.BEFORE)]
)
def test_how_far_a_schedule_reaches(planned: int, moves: int, how: Reach) -> None:
    assert clock.reach(planned=planned, moves=moves) is how


def first(rates: list[float]) -> int | None:
    """The step at which the schedule is over for certain, the first being 1."""
    known = Rates()
    return next((step for step, rate in enumerate(rates, 1) if known.ended([rate], step)), None)


def test_a_schedule_that_has_come_to_zero_is_over_after_a_while() -> None:
    down = [0.1 * (1 - step / 100) for step in range(101)]  # the last of these is 0
    assert first(down) is None
    assert first(down + [0.0] * 200) == 101 + clock.LONG
    assert first([*down, *[0.0] * (clock.LONG - 1), 0.1, *[0.0] * clock.LONG]) is None  # it went up again in between


def test_it_takes_a_part_of_all_steps_too() -> None:
    long = [0.1] * 1000
    found = first(long + [0.0] * 1000)
    assert found is not None
    assert found - 1001 == pytest.approx(clock.PART * found, abs=1)


def test_a_rate_below_zero_is_told_soon() -> None:
    assert first([0.1, 0.05, 0.0, -0.05, -0.1]) == 3 + clock.AGAIN


@given(st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=300))
def test_a_schedule_that_never_comes_to_zero_is_never_over(rates: list[float]) -> None:
    assert first(rates) is None


@given(st.integers(1, 100), st.integers(0, 200))
def test_over_at_the_end(moving: int, without: int) -> None:
    known, steps = Rates(), moving + without
    for step in range(1, steps + 1):
        known.ended([0.1 if step <= moving else 0.0], step)
    lasted = without - 1  # since it was first seen
    expected = without > 0 and lasted >= max(clock.REST, clock.PART * steps)
    assert known.ended_early([0.0 if without else 0.1], steps, steps) is expected


def test_what_rounding_leaves_of_a_rate_does_not_climb() -> None:
    known = Rates(highest=1.0)
    assert known.below(-1e-15) == 0.0
    assert known.below(-0.1) == -0.1
    assert known.over([1e-13])
    assert not known.over([1e-13, 0.5])
    assert not Rates().over([0.0])  # there never was a rate


def test_a_scale_is_found_within_an_epoch() -> None:
    assert {(what, turn) for what in Built for turn in Turn if not loses(what, turn)} == {(Built.SCALER, Turn.EPOCH)}


@pytest.mark.parametrize("what", Built)
def test_how_many_are_too_many(what: Built) -> None:
    each_step = next(times for times in range(10) if rebuilt(what, times=times, most=1))
    each_epoch = next((times for times in range(10) if rebuilt(what, times=times, most=50)), None)
    assert (each_step, each_epoch) == {
        Built.OPTIMIZER: (clock.OFTEN, clock.EPOCHS),
        Built.SCHEDULER: (clock.OFTEN - 1, None),
        Built.SCALER: (clock.OFTEN - 1, None),
    }[what]


@given(st.sampled_from(Built), st.integers(0, 10), st.integers(0, 10))
def test_more_of_them_are_no_better(what: Built, times: int, most: int) -> None:
    if rebuilt(what, times=times, most=most):
        assert rebuilt(what, times=times + 1, most=most)


@pytest.mark.parametrize(
    ("most", "epochs", "data", "cycle", "meant"),
    [
        (1, False, True, 5, NO),  # nobody trains for one step
        (500, True, True, 0, NO),
        (8, True, False, 4, MAYBE),
        (8, False, False, 1, MAYBE),
        (8, False, True, 0, YES),
        (8, False, False, 4, YES),
        (500, False, False, 0, YES),
    ],
)
def test_what_speaks_for_a_cold_start(most: int, epochs: bool, data: bool, cycle: int, meant: Answer) -> None:
    assert cold(most=most, epochs=epochs, data=data, cycle=cycle) is meant
