"""A series does not grow without end; it keeps its first, its latest, and what belongs to a finding."""

from __future__ import annotations

from itertools import pairwise

import pytest

from gradcheck_lint.runtime import series
from gradcheck_lint.runtime.record import RunRecord


@pytest.mark.parametrize("length", [1, 10, 11, 12, 37, 1000, 4321])
def test_it_is_thinned_evenly(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(series, "MOST_POINTS", 10)
    record = RunRecord()
    keeper = series.SeriesKeeper(record, lambda: {5, 13})
    for step in range(1, length + 1):
        keeper.add("loss", step, float(step))
    steps = [step for step, _ in record.series["loss"]]
    assert (steps[0], steps[-1]) == (1, length)
    assert {5, 13} & set(range(1, length + 1)) <= set(steps)
    assert len(steps) <= 10 + 2
    assert len(steps) + keeper.left_out == length
    even = [step for step in steps[:-1] if step not in (5, 13)]
    assert steps == sorted(set(steps))
    gaps = {after - before for before, after in pairwise(even)}
    assert length < 50 or max(gaps) <= 2 * min(gaps)


def test_there_are_not_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(series, "MOST_SERIES", 3)
    record = RunRecord()
    keeper = series.SeriesKeeper(record, set)
    for number in range(5):
        keeper.add(f"loss/{number}", 1, 0.0)
        keeper.add(f"loss/{number}", 2, 0.0)
    assert len(record.series) == 3
    assert keeper.left_out == 4
