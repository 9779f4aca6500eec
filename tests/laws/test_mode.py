"""Grad mode, freezing, training mode and autocast: what they must be while training steps."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradcheck_lint.laws.answer import MAYBE, NO, YES, Answer
from gradcheck_lint.laws.mode import (
    IDLE,
    Flag,
    Lapse,
    Layer,
    Lost,
    Since,
    drifts,
    flag,
    idle,
    lasts,
    layer,
    lost,
    never_trained,
    records,
)

FLAGS = st.lists(st.sampled_from(Flag))


@pytest.mark.parametrize(
    ("contexts", "answer"),
    [
        (set(), YES),
        ({"autocast", "try"}, YES),
        ({"no_grad"}, NO),
        ({"inference_mode", "try"}, NO),
        ({"enable_grad"}, MAYBE),
        ({"no_grad", "enable_grad"}, MAYBE),  # which of them is inside of the other is not known
        ({"set_grad_enabled"}, MAYBE),
    ],
)
def test_records(contexts: set[str], answer: Answer) -> None:
    assert records(contexts) is answer


@given(st.lists(st.tuples(st.booleans(), st.booleans())))
def test_idle_steps_are_counted_from_the_last_that_was_none(steps: list[tuple[bool, bool]]) -> None:
    row = 0
    for on, fed in steps:
        row = idle(row, records=on, fed=fed)
    backwards = [on or fed for on, fed in reversed(steps)]
    assert row == (backwards.index(True) if True in backwards else len(backwards))


def test_one_idle_step_is_no_mistake_yet() -> None:
    assert idle(0, records=False, fed=False) < IDLE


@pytest.mark.parametrize(
    ("requires_grad", "fed", "what"),
    [
        (True, True, Flag.OPEN),
        (True, False, Flag.OPEN),
        (False, False, Flag.FROZEN),
        (False, True, Flag.LEFTOVER),
    ],
)
def test_flag(requires_grad: bool, fed: bool, what: Flag) -> None:
    assert flag(requires_grad=requires_grad, fed=fed) is what


@given(FLAGS, FLAGS, st.booleans())
def test_what_is_trained_at_one_moment_is_trained(some: list[Flag], more: list[Flag], thawed: bool) -> None:
    both = never_trained([*some, *more], thawed=thawed)
    if some and more:
        assert both == (never_trained(some, thawed=thawed) and never_trained(more, thawed=thawed))
    if both:
        assert not {Flag.OPEN, Flag.LEFTOVER} & {*some, *more}
        assert not thawed or Flag.EARLY not in {*some, *more}


def test_never_trained() -> None:
    assert never_trained([Flag.FROZEN])
    assert never_trained([Flag.FROZEN, Flag.EARLY])
    assert not never_trained([Flag.EARLY], thawed=True)
    assert not never_trained([])  # nothing was seen of it


@pytest.mark.parametrize(
    ("training", "before", "what"),
    [
        (True, False, Layer.TRAINING),
        (True, True, Layer.TRAINING),
        (False, True, Layer.UNDONE),
        (False, False, Layer.NEVER),
    ],
)
def test_layer(training: bool, before: bool, what: Layer) -> None:
    assert layer(training=training, before=before) is what


@given(st.lists(st.booleans(), max_size=20))
def test_a_lapse_is_two_steps_in_a_row(steps: list[bool]) -> None:
    lapse, begun, certain = Lapse(), [], []
    for step, undone in enumerate(steps, 1):
        if lapse.begins(step, undone=undone):
            begun.append(step)
        if lapse.lasts(step):
            certain.append(step)
    pairs = list(enumerate(zip([False, *steps], steps, strict=False), 1))
    assert begun == [step for step, (before, now) in pairs if now and not before]
    assert certain == [step for step, (before, now) in pairs if now and before]


def test_a_second_look_at_the_same_step_makes_no_lapse_of_it() -> None:
    lapse = Lapse()
    assert lapse.begins(7, undone=True)
    assert not lapse.begins(7, undone=True)
    assert not lapse.lasts(7)


@pytest.mark.parametrize(
    ("training", "statistics", "trained", "answer"),
    [
        (True, True, [False, False], True),
        (True, True, [False, True], False),
        (True, True, [], False),  # it has no weights that could be frozen
        (False, True, [False], False),
        (True, False, [False], False),
    ],
)
def test_drifts(training: bool, statistics: bool, trained: list[bool], answer: bool) -> None:
    assert drifts(training=training, statistics=statistics, trained=trained) is answer


def test_lost() -> None:
    """Each way of it, for all that does not matter then."""
    names = ("around", "device", "beside", "wrapped", "past", "scaled", "entered")
    for values in product((False, True), repeat=len(names)):
        told = dict(zip(names, values, strict=True))
        how = lost(**told)
        if told["around"]:
            assert how is (None if told["device"] else Lost.DEVICE)
        elif told["beside"]:
            assert how is Lost.OUTSIDE
        elif told["wrapped"]:
            assert how is (Lost.FORWARD if told["past"] else None)
        else:
            assert how is (Lost.UNUSED if told["scaled"] and told["entered"] else None)


@given(st.sets(st.sampled_from(Since)))
def test_a_mode_lasts_where_no_path_switches_back(met: set[Since]) -> None:
    expected = NO if Since.LEFT not in met else MAYBE if Since.BACK in met else YES
    assert lasts(met) is expected
    assert lasts([*met, Since.BEFORE]) is expected  # rounds in which the call was not made say nothing
