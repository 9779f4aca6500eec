"""The scripts of `examples/`: they run, they do the harm that they claim, and gradlint says what they are marked with.

Scripts run in this process, each once, because starting torch anew for each would take minutes.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import io
import json
import math
import os
import re
import subprocess
import sys
import tokenize
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from gradcheck_lint import watch
from gradcheck_lint.runtime.record import RunRecord

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
WRONG = sorted((EXAMPLES / "wrong").glob("*.py"))
RIGHT = sorted((EXAMPLES / "right").glob("*.py"))
SCRIPTS = [*WRONG, *RIGHT]

CODE = re.compile(r"GL\d{3}")
MARKER = re.compile(r"# <- (GL\d{3}(?:, GL\d{3})*)$")
LATER = re.compile(r"# later: (GL\d{3})$")

every_script = pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.stem}")


class Twin(NamedTuple):
    """A number that both scripts of one name leave behind, and what it looks like where the mistake does its harm."""

    name: str
    harmed: Callable[[float], bool]


def never_moved(number: float) -> bool:
    return number == 0


def as_it_was(ratio: float) -> bool:
    return ratio == 1


TWINS = {
    "autograd_basics": Twin("known", lambda known: known < 3),
    "custom_optimizer": Twin("height", lambda height: height > 1),
    "descent_by_hand": Twin("distance", lambda distance: distance > 0.1),
    "digits_classifier": Twin("batches_in_eval_mode", lambda batches: batches > 200),
    "line_with_momentum": Twin("last_loss", lambda loss: loss > 100),
    "linear_module": Twin("last_loss", lambda loss: loss > 0.5),
    "loop_variable_rebound": Twin("loss_ratio", as_it_was),
    "manual_regression": Twin("error", lambda error: error > 1),
    "nesterov_group": Twin("lead", never_moved),
    "refused_duplicates": Twin("pace", lambda pace: pace > 1.5),
    "refused_missing_lr": Twin("moved", never_moved),
    "refused_non_leaf": Twin("loss_ratio", as_it_was),
    "refused_options": Twin("built", lambda built: built == 0),
    "refused_overlapping_groups": Twin("moved", never_moved),
    "refused_sets": Twin("misplaced", lambda misplaced: misplaced > 0),
    "refused_state_of_other_groups": Twin("stride", lambda stride: math.isclose(stride, 1, rel_tol=0.01)),
    "sgd_bare_tensor": Twin("moved", never_moved),
    "sgd_group_entry_replaced": Twin("error", lambda error: error > 1),
    "sgd_variable_rebound": Twin("error", lambda error: error > 1),
    "sgd_whole_module": Twin("loss_ratio", as_it_was),
    "weights_given_by_data": Twin("apart", never_moved),
    "weights_replaced": Twin("moved", never_moved),
}
ALONE = {"moving_average", "optimizer_state", "two_patterns"}


@functools.cache
def run(script: Path) -> dict[str, Any]:
    """The names that `script` leaves behind, and under `printed` what it wrote. `runpy` would lose them at `exit()`."""
    return _execute(script)


def _execute(script: Path) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "__main__", "__file__": str(script)}
    program = compile(script.read_text(encoding="utf-8"), str(script), "exec")
    status: object = 0
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        try:
            exec(program, names)
        except SystemExit as ending:
            status = ending.code or 0
    assert status == 0, f"{script.name} exits with {status}"
    return {**names, "printed": printed.getvalue()}


@functools.cache
def watched(script: Path) -> tuple[dict[str, Any], RunRecord]:
    """The same of a run under the watcher, and the record of it."""
    with watch(on_finding="ignore") as run:
        names = _execute(script)
    return names, run.record


def comments(script: Path, pattern: re.Pattern[str]) -> list[tuple[int, str]]:
    """(line, first group) of each comment that matches `pattern`."""
    with script.open("rb") as file:
        tokens = [token for token in tokenize.tokenize(file.readline) if token.type == tokenize.COMMENT]
    matches = [(token.start[0], pattern.match(token.string)) for token in tokens]
    return [(line, match.group(1)) for line, match in matches if match]


def expected(script: Path) -> list[tuple[int, str]]:
    """(line, code) of each finding that the script is marked with."""
    return sorted((line, code) for line, codes in comments(script, MARKER) for code in codes.split(", "))


@every_script
def test_it_runs_and_says_something(script: Path) -> None:
    lines = run(script)["printed"].splitlines()
    assert 1 <= len(lines) <= 10


@pytest.mark.parametrize("stem", sorted(TWINS))
def test_the_wrong_one_is_harmed_and_the_right_one_is_not(stem: str) -> None:
    twin = TWINS[stem]
    wrong = run(EXAMPLES / "wrong" / f"{stem}.py")[twin.name]
    right = run(EXAMPLES / "right" / f"{stem}.py")[twin.name]
    assert twin.harmed(wrong), f"{twin.name} is {wrong}: no harm done"
    assert not twin.harmed(right), f"{twin.name} is {right}: harmed"


def test_every_script_has_a_twin_or_stands_alone() -> None:
    assert {path.stem for path in WRONG} == set(TWINS)
    assert {path.stem for path in RIGHT} == set(TWINS) | ALONE


def test_eval_mode_costs_accuracy_on_unseen_digits() -> None:
    wrong, right = (run(EXAMPLES / side / "digits_classifier.py")["accuracy"] for side in ("wrong", "right"))
    assert wrong < right - 0.04


def test_replaced_weights_cost_the_fit() -> None:
    wrong, right = (run(EXAMPLES / side / "weights_replaced.py")["loss"].item() for side in ("wrong", "right"))
    assert wrong > 1 > 0.1 > right


def test_moving_average_is_closer_to_the_truth_than_what_it_follows() -> None:
    names = run(EXAMPLES / "right" / "moving_average.py")
    assert names["followed"] < names["distance"]


def test_optimizer_state_survives_saving() -> None:
    names = run(EXAMPLES / "right" / "optimizer_state.py")
    assert names["kept"] == names["momentum"] == pytest.approx(5.0, rel=0.01)
    assert names["optimizer"].param_groups[1]["momentum"] == 0.9


def test_two_patterns_are_told_apart_only_after_training() -> None:
    names = run(EXAMPLES / "right" / "two_patterns.py")
    assert names["accuracy_before"] < names["accuracy_after"] == 1.0


@every_script
def test_it_prints_the_same_under_the_watcher(script: Path) -> None:
    if script.parent.name == "wrong" and script.stem == "refused_sets":
        return  # that its numbers change from run to run is the mistake
    assert watched(script)[0]["printed"] == run(script)["printed"]


def test_it_runs_as_a_program_of_its_own() -> None:
    script = EXAMPLES / "right" / "two_patterns.py"  # the one that ends in exit()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert "after training: 100%" in done.stdout


@every_script
def test_its_docstring_says_what_it_shows(script: Path) -> None:
    docstring = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8")))
    assert docstring is not None
    assert 2 <= len([line for line in docstring.splitlines() if line]) <= 4


def test_only_wrong_scripts_are_marked() -> None:
    assert not [script.name for script in RIGHT if expected(script) or comments(script, LATER)]
    unmarked = [script.stem for script in WRONG if not expected(script) and not comments(script, LATER)]
    assert unmarked == ["refused_missing_lr"]  # torch alone says this one


@every_script
def test_every_code_in_it_belongs_to_a_mark(script: Path) -> None:
    """A mark with a slip in it would be no mark, and its script would seem to expect nothing."""
    marks = [code for _, code in [*expected(script), *comments(script, LATER)]]
    assert sorted(CODE.findall(script.read_text(encoding="utf-8"))) == sorted(marks)


def test_readme_names_every_script_and_says_what_its_marks_say() -> None:
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \[(\w+)\]\(wrong/(\w+)\.py\) \| [^|]+ \| ([^|]+) \| [^|]+ \|$", text, re.MULTILINE)
    assert sorted(title for title, _, _ in rows) == sorted(TWINS)
    for title, stem, cell in rows:
        assert title == stem
        script = EXAMPLES / "wrong" / f"{stem}.py"
        marked = {code for _, code in expected(script)}
        awaited = {code for _, code in comments(script, LATER)}
        assert set(CODE.findall(cell)) == marked | awaited, stem
        assert ("later: " in cell) == bool(awaited), stem
    assert set(re.findall(r"^\| \[(\w+)\]\(right/\1\.py\)", text, re.MULTILINE)) >= ALONE


@pytest.mark.parametrize("script", WRONG, ids=lambda path: path.stem)
def test_the_watcher_says_what_the_readme_says(script: Path) -> None:
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    (cell,) = re.findall(rf"^\| \[{script.stem}\]\(wrong/.*\| ([^|]+) \|$", text, re.MULTILINE)
    record = watched(script)[1]
    assert record.problems == []
    codes = {finding.code for finding in record.findings}
    steps = {str(finding.step) for finding in record.findings if finding.step is not None}
    assert set(CODE.findall(cell)) == codes
    assert set(re.findall(r" at step (\d+): ", cell)) == steps
    assert cell.startswith("nothing: ") == (not codes)


@pytest.mark.parametrize("script", RIGHT, ids=lambda path: path.stem)
def test_the_watcher_is_silent_where_nothing_is_wrong(script: Path) -> None:
    record = watched(script)[1]
    assert record.findings == []
    assert record.problems == []


@pytest.fixture(scope="module")
def found() -> dict[str, list[tuple[int, str]]]:
    """What `gradlint examples` finds: path → (line, code), sorted."""
    command = [sys.executable, "-m", "gradcheck_lint", "--output-format", "json", "--isolated", "examples"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 1, done.stderr
    assert done.stdout, done.stderr  # Python itself also ends with 1 when it fails
    result = json.loads(done.stdout)
    assert result["summary"]["files"] == len(SCRIPTS)
    by_path: dict[str, list[tuple[int, str]]] = {}
    for finding in result["findings"]:
        by_path.setdefault(finding["path"], []).append((finding["line"], finding["code"]))
    return {path: sorted(findings) for path, findings in by_path.items()}


@every_script
def test_gradlint_finds_what_is_marked_and_no_more(script: Path, found: dict[str, list[tuple[int, str]]]) -> None:
    assert found.get(script.relative_to(ROOT).as_posix(), []) == expected(script)
