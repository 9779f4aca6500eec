"""What looks like a mistake, and is none: no finding, and no fix that changes anything."""

from __future__ import annotations

import pytest

from tests.fuzz.deliberate import programs, trial
from tests.fuzz.trial import run


def test_nothing_is_found_and_mending_changes_nothing() -> None:
    alarms, harmed = [], []
    for name in programs():
        verdict = trial(name)
        alarms += [f"{name}: {finding.code} on line {finding.span.line}" for finding in verdict.found]
        harmed += [name] if verdict.harmed else []
        assert not verdict.problems
    assert not harmed, "\n".join(harmed)
    assert not alarms, "\n".join(alarms)


def test_there_are_many() -> None:
    assert len(programs()) > 150


@pytest.mark.parametrize("name", list(programs())[::6])
def test_program_runs(name: str) -> None:
    assert not run(programs()[name]).error
