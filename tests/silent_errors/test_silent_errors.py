"""Published errors that raise nothing, made again in small: each is caught by its second step, its twin is silent.

A module here has `CODE`, functions `wrong()` and `right()` that train for a few steps, and a docstring that says where
the error was published. `OPTIONS` may hold options of the watcher, `STEP` the step by which it has to be caught where
it needs more than two to exist at all (and why).
"""

from __future__ import annotations

import importlib
import random
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from gradcheck_lint import registry
from gradcheck_lint.finding import Confidence
from gradcheck_lint.runtime.record import RunRecord
from gradcheck_lint.runtime.session import Options, Session

RULES = registry.load(packs=False)
HERE = Path(__file__).parent
ERRORS = [
    importlib.import_module(file.stem)
    for file in sorted(HERE.glob("*.py"))
    if not file.stem.startswith(("test_", "ranks_", "conftest"))
]


def run(program: Callable[[], object], options: dict[str, Any]) -> RunRecord:
    torch.manual_seed(0)
    random.seed(0)
    session = Session(RULES, Options(everything=True, **options), lambda finding: None)
    session.start()
    try:
        program()
    finally:
        session.stop()
    assert session.record.problems == []
    return session.record


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_wrong_is_caught(error: ModuleType) -> None:
    found = run(error.wrong, getattr(error, "OPTIONS", {})).findings
    own = [finding for finding in found if finding.code == error.CODE]
    assert own, f"found {[(finding.code, finding.label) for finding in found]}"
    assert all(finding.confidence is Confidence.HIGH for finding in own)
    assert (own[0].step or 0) <= getattr(error, "STEP", 2)
    assert Path(own[0].span.path).name == Path(str(error.__file__)).name


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_right_is_silent(error: ModuleType) -> None:
    found = run(error.right, getattr(error, "OPTIONS", {})).findings
    assert found == []


def test_page_names_all() -> None:
    """docs/silent-errors.md has a line for each program, with the code that finds it."""
    page = (HERE.parents[1] / "docs" / "silent-errors.md").read_text(encoding="utf-8")
    lines = [line.split("|") for line in page.splitlines() if line.startswith("| ") and "`" in line]
    told = {line[3].strip().strip("`"): line[4].strip() for line in lines}
    expected = {error.__name__: error.CODE for error in ERRORS}
    for file in sorted(HERE.glob("ranks/*.py")):
        marks = re.findall(r"# <- ([\w, ]+)", file.read_text(encoding="utf-8"))
        if marks:
            expected[f"ranks/{file.stem}"] = ", ".join(marks)
    assert told == expected
