"""The pair that `scripts/new_rule.py` writes is well formed, and fails its tests until it is filled in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gradcheck_lint import registry
from gradcheck_lint.page import Page
from gradcheck_lint.testing import check_page

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "new_rule.py"


def new_rule(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(SCRIPT.parents[1])}
    return subprocess.run(command, capture_output=True, encoding="utf-8", check=False, env=environment)


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    done = new_rule("GL999", "weights-left-in-the-rain", "--folder", str(tmp_path))
    assert done.returncode == 0, done.stderr
    return tmp_path


def test_the_pair_loads_and_agrees(pair: Path) -> None:
    (rule,) = [rule for rule in registry.load([pair], packs=False) if rule.code == "GL999"]
    page = Page.read(pair / "weights_left_in_the_rain.md")
    assert type(rule).__name__ == "WeightsLeftInTheRain"
    assert (page.code, page.slug, page.severity, page.fix) == (rule.code, rule.slug, rule.severity, rule.fix)
    assert page.found_by == rule.witnesses


def test_every_example_fails_until_it_is_written(pair: Path) -> None:
    page = Page.read(pair / "weights_left_in_the_rain.md")
    rules = registry.load([pair], packs=False)
    with pytest.raises(AssertionError) as failure:
        check_page(page, rules)
    told = str(failure.value)
    for name in (
        "GL999-wrong-1: marks lines [1]",
        "GL999-wrong-1: should run",
        "GL999-right-1: should run",
        "-quiet: ",
    ):
        assert name in told
    assert [heading for heading, text in page.sections.items() if not text]


def test_names_that_are_taken_or_unfit_are_refused(pair: Path) -> None:
    refusals = {
        ("GL002", "some-new-defect"): "would clash with GL002 unused-suppression",
        ("GL998", "unused-suppression"): "would clash with GL002 unused-suppression",
        ("X1", "some-new-defect"): 'the code "X1" should be',
        ("GL998", "Defect"): 'the slug "Defect" should be',
        ("GL998", "weights-left-in-the-rain"): "weights_left_in_the_rain.py is there already",
    }
    for arguments, message in refusals.items():
        before = sorted(pair.iterdir())
        done = new_rule(*arguments, "--folder", str(pair))
        assert done.returncode == 2
        assert message in done.stderr
        assert "Traceback" not in done.stderr
        assert sorted(pair.iterdir()) == before
