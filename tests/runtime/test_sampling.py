"""Which steps are checked, and which thoroughly: of a run whose clock is ours."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from gradcheck_lint.runtime import sampling
from gradcheck_lint.runtime.sampling import EARLY, FIRST, Sampling
from gradcheck_lint.runtime.session import Options


def steps(
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    *,
    one: float = 1.0,
    check: float = 0.0,
    sample: float = 0.0,
    **given: Any,
) -> tuple[list[int], list[int], list[int]]:
    """The steps that are checked, those thoroughly, and those at which values are read.

    one: seconds that a step takes; check, sample: what it takes to check one, and one thoroughly.
    """
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(sampling, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    guard: Any = SimpleNamespace(watching=0.0, spent=lambda: guard.watching, spent_before=lambda: guard.watching)
    it = Sampling(Options(**given), guard)
    checked, thorough, read = [], [], []
    coming = 1
    for step in range(1, number + 1):
        clock.now += one
        if step != coming:
            continue
        checked.append(step)
        deep = it.thorough(step)
        if deep:
            thorough.append(step)
        if it.reads(step) and deep:
            read.append(step)
        guard.watching += sample if deep else check
        if deep:
            it.done(step)
        coming = it.next(step)
        if coming > step + 1:
            coming = it.rest(step)
            it.woke()
    return checked, thorough, read


def test_the_first_steps_and_then_each_fiftieth(monkeypatch: pytest.MonkeyPatch) -> None:
    checked, thorough, read = steps(monkeypatch, 200)
    first = list(range(1, FIRST + 1))
    assert checked == thorough == [*first, 50, 100, 150, 200]
    assert read == [*sorted(EARLY), 50, 100, 150, 200]


def test_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    checked, thorough, read = steps(monkeypatch, 120, every=1)
    assert checked == list(range(1, 121))
    assert thorough == [*range(1, FIRST + 1), 50, 100]
    assert read == [*sorted(EARLY), 50, 100]


@pytest.mark.parametrize(("every", "samples"), [(7, [56, 112]), (30, [60, 120]), (70, [70, 140])])
def test_samples_are_some_fifty_steps_apart(monkeypatch: pytest.MonkeyPatch, every: int, samples: list[int]) -> None:
    checked, thorough, _ = steps(monkeypatch, 150, every=every)
    assert [step for step in thorough if step > FIRST] == samples
    assert [step for step in checked if step > FIRST] == [step for step in range(every, 151, every) if step > FIRST]


def test_deep_reads_at_each_that_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    checked, thorough, read = steps(monkeypatch, 60, every=10, level="deep")
    assert thorough == checked
    assert [step for step in read if step > FIRST] == [30, 40, 50, 60]


def test_light_reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert steps(monkeypatch, 60, level="light")[2] == []


def test_samples_that_take_long_are_farther_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    checked, thorough, _ = steps(monkeypatch, 2000, sample=1.0, budget=0.004)
    late = [step for step in thorough if step > FIRST]
    assert all(after - before >= 500 for before, after in pairwise(late))
    assert len(late) >= 3
    assert {100, 150, 200} <= set(checked)  # which costs nothing here


def test_checks_that_take_long_are_farther_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    checked, _, _ = steps(monkeypatch, 2000, check=0.4, sample=0.4, budget=0.004)
    late = [step for step in checked if step > 50]
    assert 0.4 * len(late) <= 0.004 * 2000
    assert len(late) >= 5


def test_what_is_asked_for_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    checked, thorough, _ = steps(monkeypatch, 300, every=50, check=9.0, sample=9.0)
    assert [step for step in checked if step > FIRST] == [50, 100, 150, 200, 250, 300]
    assert [step for step in thorough if step > FIRST] == [50, 100, 150, 200, 250, 300]


def test_attention_and_a_roused_step(monkeypatch: pytest.MonkeyPatch) -> None:
    guard: Any = SimpleNamespace(watching=0.0, spent_before=lambda: 0.0)
    it = Sampling(Options(every=10), guard)
    it.attend(33)
    assert (it.next(31), it.next(33), it.thorough(33), it.thorough(40)) == (32, 40, True, False)
    it.rouse()
    assert it.thorough(40)
    it.done(40)
    assert not it.thorough(60)
