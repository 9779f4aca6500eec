"""What looks like a mistake, and is none: no finding, and no fix that changes anything."""

from __future__ import annotations

import pytest

from tests.fuzz.deliberate import alarms, programs, told, trial
from tests.fuzz.trial import run


def test_nothing_is_found_and_mending_changes_nothing() -> None:
    false, harmed = [], []
    for name in programs():
        verdict = trial(name)
        false += [f"{name}: {finding.code} on line {finding.span.line}" for finding in alarms(name, verdict)]
        harmed += [name] if verdict.harmed else []
        assert not verdict.problems
    assert not harmed, "\n".join(harmed)
    assert not false, "\n".join(false)


def test_what_may_be_told_is_told() -> None:
    """An entry whose finding is right says so only as long as there is one."""
    for name in filter(told, programs()):
        assert [finding.code for finding in trial(name).found] == [name.partition("/")[0]], name


def test_there_are_many() -> None:
    assert len(programs()) > 150


@pytest.mark.parametrize("name", list(programs())[::6])
def test_program_runs(name: str) -> None:
    assert not run(programs()[name]).error
