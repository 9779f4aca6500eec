"""Gradients and updates of layers are held against what they used to be."""

from __future__ import annotations

import pytest

from gradcheck_lint.runtime.checks.numbers.history import Change, History
from gradcheck_lint.runtime.sightings.numbers import GradientExplodes, GradientVanishes


def test_exploding_needs_a_history_and_a_large_factor() -> None:
    history = History()
    for norm in (1.0, 2.0, 1.5):
        assert history.gradients({"a": norm, "b": norm}) == []
    assert history.gradients({"a": 150.0, "b": 1.0}) == []
    changes = history.gradients({"a": 1e9, "b": 1.0})
    assert [(change.kind, change.layer, change.extreme) for change in changes] == [(GradientExplodes, "a", True)]


def test_all_gradients_fading_together_is_learning() -> None:
    history = History()
    for power in range(12):
        assert history.gradients({"a": 10.0**-power, "b": 2 * 10.0**-power}) == []


def test_vanishing_is_told_of_the_layer_that_does() -> None:
    history = History()
    told = [change for _ in range(5) for change in history.gradients({"first": 1e-14, "last": 1.0})]
    assert told == [Change(GradientVanishes, "first", pytest.approx(1e-14), pytest.approx(1e-14), True, True)]


def test_first_updates_may_be_large() -> None:
    history = History()
    for step in (1, 2):
        assert history.updates(step, {"a": 50.0}) == []
    for step in (5, 10):
        assert history.updates(step, {"a": 3.0}) == []
    assert [change.extreme for change in history.updates(20, {"a": 3.0})] == [False]
