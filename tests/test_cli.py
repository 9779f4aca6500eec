"""The command as people use it: words, options, exit codes, and what goes where."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gradcheck_lint import __version__
from gradcheck_lint.cli import main
from gradcheck_lint.finding import Confidence, Edit, Finding, Fix, Safety, Severity, Span
from gradcheck_lint.result import AnalysisError, Problem
from gradcheck_lint.rule import Rule
from gradcheck_lint.source import engine, limits
from gradcheck_lint.source.file import SourceFile

ROOT = Path(__file__).resolve().parent.parent
IDLE = "x = 1  # gradlint: ignore[GL101]\n"
ENVIRONMENT = ("NO_COLOR", "FORCE_COLOR", "TERM", "COLUMNS")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "idle.py").write_bytes(IDLE.encode())
    (tmp_path / "good.py").write_bytes(b"x = 1\n")
    return tmp_path


def run(*args: str, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(main, args, input=stdin)


def concise(*args: str, stdin: bytes | None = None) -> list[str]:
    """The path and the line of each finding."""
    result = run(*args, "--output-format", "concise", stdin=stdin)
    return [":".join(line.split(":")[:2]) for line in result.stdout.splitlines()]


# Exit codes and words


def test_exit_codes() -> None:
    assert run("good.py").exit_code == 0
    assert run("idle.py").exit_code == 1
    assert run("idle.py", "--exit-zero").exit_code == 0
    assert run("nowhere.py").exit_code == 2


def test_working_directory_is_the_default() -> None:
    result = run()
    assert result.exit_code == 1
    assert "idle.py:1:8" in result.stdout
    assert run("lint").stdout.splitlines()[:3] == result.stdout.splitlines()[:3]


def test_words_and_folders_of_the_same_name(here: Path) -> None:
    (here / "rules").mkdir()
    (here / "rules" / "mine.py").write_bytes(IDLE.encode())
    assert "unused-suppression" in run("rules").stdout
    assert run("rules").exit_code == 0
    assert concise("./rules") == ["rules/mine.py:1"]
    assert concise("-q", "rules") == ["rules/mine.py:1"]
    assert concise("lint", "rules") == ["rules/mine.py:1"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["nowhere"], 'error: "nowhere" does not exist'),
        (["rulez"], 'error: "rulez" does not exist; did you mean "rules"?'),
        (["explian", "GL101"], 'error: "explian" does not exist; did you mean "explain"?'),
        ([""], 'error: "" is no path; leave it out, or write "." for the working directory'),
        (["--fixx"], "error: no such option"),
        (
            ["--jobs", "0"],
            "error: invalid value for '-j' / '--jobs': 0 is not in the range x>=1; see `gradlint --help`",
        ),
        (["--output-format", "xml"], "error: invalid value for '--output-format': 'xml' is not one of"),
        (["--select", "GL001,GL999"], 'error: unknown rule "GL999" in the command line'),
        (["--ignore", "unused-supression"], 'did you mean "unused-suppression"?'),
        (["--config", "no.toml"], "error: the configuration no.toml does not exist"),
        (["-", "idle.py"], "error: `-` cannot be combined with other paths"),
        (["--stdin-filename", "x.py"], "error: --stdin-filename needs `-` as the path"),
        (["-", "--show-files"], "error: --show-files cannot be used with `-`"),
        (["-o", "no/such/folder/x"], "error: no/such/folder/x cannot be written: No such file or directory"),
        (["--extend-exclude", "!"], 'error: "!" in exclude or extend-exclude is no pattern'),
        (["explain"], "error: missing argument 'RULE...'; see `gradlint --help`"),
        (["explain", "GL002x"], 'error: there is no rule "GL002x"; did you mean "GL002"?'),
        (["rules", "."], "error: `gradlint rules` takes no paths"),
    ],
)
def test_usage_errors_are_one_line(args: list[str], message: str) -> None:
    result = run(*args)
    assert result.exit_code == 2
    lines = [line for line in result.stderr.splitlines() if not line.startswith("warning")]
    assert len(lines) == 1
    assert message in lines[0]


def test_wrong_configuration_is_one_line(here: Path) -> None:
    (here / "pyproject.toml").write_text("[tool.gradlint]\nselekt = []\n", encoding="utf-8")
    for args in ([], ["rules"], ["explain", "GL001"]):
        result = run(*args)
        assert result.exit_code == 2
        assert result.stderr == 'error: pyproject.toml: unknown setting "selekt"; did you mean "select"?\n'
    assert run("--isolated", "good.py").exit_code == 0


def test_help_lists_options_in_sections_and_the_words() -> None:
    for args in (["--help"], ["-h"], ["--fix", "--help"], ["lint", "--help"]):
        result = run(*args)
        assert result.exit_code == 0
        for title in ("Rules:", "Fixes:", "Output:", "Files:", "Running:", "Commands:"):
            assert f"\n{title}\n" in result.stdout
        assert "[OPTIONS] [PATHS]..." in result.stdout
        assert "./rules" in result.stdout
    promised = """--select --ignore --extend-select --min-confidence --fix --unsafe-fixes --diff --output-format
        --output-file --statistics --exit-zero --no-cache --jobs --config --isolated --show-files --quiet --verbose
        --version --stdin-filename --show-completion"""
    assert set(re.findall(r"--[a-z-]+", promised)) <= set(re.findall(r"--[a-z-]+", run("--help").stdout))


def test_version() -> None:
    for args in (["--version"], ["-V"], ["lint", "--version"]):
        assert run(*args).stdout == f"gradlint {__version__}\n"


# What is linted


def test_select_and_ignore_take_lists_and_repetitions(here: Path) -> None:
    (here / "broken.py").write_bytes(b"x = (\n")
    assert concise() == ["broken.py:1", "idle.py:1"]
    assert concise("--ignore", "GL001, GL002") == []
    assert concise("--ignore", "GL001", "--ignore", "unused-suppression") == []
    assert concise("--select", "GL101") == ["broken.py:1"]
    assert concise("--select", "GL0,GL1") == ["broken.py:1", "idle.py:1"]
    assert concise("--select", "GL1", "--extend-select", "GL002", "--ignore", "GL001") == ["idle.py:1"]


def test_configuration_and_what_is_laid_on_top(here: Path) -> None:
    (here / "pyproject.toml").write_text("[tool.gradlint]\nignore = ['GL002']\n", encoding="utf-8")
    assert concise() == []
    assert concise("--extend-select", "GL002") == ["idle.py:1"]
    assert concise("--select", "ALL") == ["idle.py:1"]
    assert concise("--isolated") == ["idle.py:1"]
    (here / "other.toml").write_text("exclude = ['idle.py']\n", encoding="utf-8")
    assert concise("--config", "other.toml") == []
    assert concise("--config", "other.toml", "--exclude", "good.py") == ["idle.py:1"]
    (here / "pyproject.toml").write_text("[tool.gradlint]\noutput-format = 'json'\n", encoding="utf-8")
    assert json.loads(run().stdout)["version"] == 1


def test_excludes() -> None:
    assert concise("--extend-exclude", "idle.py,other") == []
    assert concise("--extend-exclude", "idle.py", "idle.py") == ["idle.py:1"]
    assert concise("--extend-exclude", "idle.py", "--force-exclude", "idle.py") == []


def test_gitignore(here: Path) -> None:
    (here / ".gitignore").write_text("idle.py\n", encoding="utf-8")
    assert concise() == []
    assert concise("--no-respect-gitignore") == ["idle.py:1"]


def test_show_files(here: Path) -> None:
    (here / "a").mkdir()
    (here / "a" / "x.py").write_bytes(b"(((")
    result = run("--show-files")
    assert result.exit_code == 0
    assert result.stdout == "a/x.py\ngood.py\nidle.py\n"


def test_folder_without_python_files(here: Path) -> None:
    (here / "empty").mkdir()
    result = run("empty")
    assert (result.exit_code, result.stdout) == (0, "No Python files to check.\n")
    result = run("empty", "--output-format", "concise")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "warning: no Python files found in empty\n")
    assert run("empty", "--output-format", "concise", "-q").stderr == ""


def test_rule_folders_of_the_configuration(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADLINT_ALLOW_RULE_FOLDERS", "1")
    (here / "checks").mkdir()
    text = "from gradcheck_lint.rule import Rule\nclass R(Rule):\n    code, slug = 'XR101', 'my-own'\n"
    (here / "checks" / "my_own.py").write_text(text, encoding="utf-8")
    (here / "gradlint.toml").write_text("rule-folders = ['checks']\nexclude = ['checks']\n", encoding="utf-8")
    assert run("good.py", "--select", "my-own").exit_code == 0
    assert run("explain", "my-own").stderr == "error: XR101 (my-own) has no page\n"
    page = (ROOT / "rules" / "syntax_error.md").read_text(encoding="utf-8")
    page = page.replace("GL001", "XR101").replace("syntax-error", "my-own")
    (here / "checks" / "my_own.md").write_text(page, encoding="utf-8")
    assert run("explain", "xr101").stdout.startswith("XR101 my-own\n")
    assert run("rules").stdout.endswith("\nOff by default: GL506.\n")
    (here / "checks" / "my_own.py").write_text(
        text.replace("XR101", "XR102") + "    default = False\n", encoding="utf-8"
    )
    (here / "checks").rename(here / "more")
    (here / "gradlint.toml").write_text("rule-folders = ['more']\n", encoding="utf-8")
    assert run("rules").stdout.endswith("\nOff by default: GL506, XR102.\n")
    assert "my-own" in run("rules").stdout


# The cache


def cached(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("gradlint-*.json"))


def test_cache_is_told_and_emptied(here: Path) -> None:
    folder = here / "build" / "cache"
    assert run("cache", "dir", "--cache-dir", str(folder)).stdout == f"{folder}\n"
    assert run("--cache-dir", str(folder), "-q").exit_code == 1
    assert len(cached(folder)) == 2
    (folder / "mine.json").write_text("{}")
    result = run("cache", "clean", "--cache-dir", str(folder))
    assert result.stdout == f"Deleted 2 remembered results in {folder}.\n"
    assert [path.name for path in folder.glob("*.json")] == ["mine.json"]
    assert run("cache", "clean", "--cache-dir", str(here / "none")).stdout.startswith("Deleted 0 ")
    assert not (here / "none").exists()


def test_cache_where_the_configuration_says(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "gradlint.toml").write_text("cache-dir = 'build/cache'\n", encoding="utf-8")
    assert run("cache", "dir").stdout == f"{here / 'build' / 'cache'}\n"
    run("-q")
    assert len(cached(here / "build" / "cache")) == 2
    run("-q", "--no-cache", "--cache-dir", "other")
    assert not (here / "other").exists()
    run("-q", "--cache-dir", "other")
    assert len(cached(here / "other")) == 2
    holds = "holds things that are not gradlint's"
    cure = "; name a new or empty one, or say --no-cache"
    assert run("-q", "--cache-dir", ".").stderr == f"error: the cache folder . of --cache-dir {holds}{cure}\n"
    (here / "gradlint.toml").write_text("cache-dir = 'sources'\n", encoding="utf-8")
    (here / "sources").mkdir()
    (here / "sources" / "x.py").write_text("x = 1\n")
    named = "error: the cache folder sources of"
    result = run("-q")
    assert (result.exit_code, result.stderr) == (2, f"{named} cache-dir in gradlint.toml {holds}{cure}\n")
    monkeypatch.setenv("GRADLINT_CACHE_DIR", "sources")
    assert run("--isolated").stderr == f"{named} GRADLINT_CACHE_DIR {holds}{cure}\n"
    assert run("cache", "dir", "--isolated").stderr == f"{named} GRADLINT_CACHE_DIR {holds}\n"


def test_cache_is_a_word(here: Path) -> None:
    assert run("cache").exit_code == 2
    assert run("cache", "empty").stderr.startswith("error: invalid value for 'dir|clean'")
    (here / "cache").mkdir()
    (here / "cache" / "x.py").write_text("x = 1\n")
    assert run("./cache").stdout.startswith("No training code in 1 file")


# What is said of what was not looked at


NOT_PYTHON = {
    "data": b'{"lr": 0.1}\n',
    "README": b"hello\n",
    "words": b"'words'\n'and more'\n",
    "book": b'{"cells": [], "nbformat": 4}',
    "model.pt": b"PK\x03\x04\xff\x00",
}


@pytest.mark.parametrize("name", NOT_PYTHON)
def test_a_file_that_is_no_program_is_not_all_clear(here: Path, name: str) -> None:
    (here / name).write_bytes(NOT_PYTHON[name])
    result = run("good.py", name)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"error: {name} is not Python source; name it *.py if it is\n"


@pytest.mark.parametrize("text", [b"", b"x = 1\n", b"main()\n", b"#!/usr/bin/env python3\n'words'\n"])
def test_a_program_without_a_suffix_is_one(here: Path, text: bytes) -> None:
    (here / "script").write_bytes(text)
    assert run("script").exit_code == 0
    (here / "script").write_bytes(b"#!/usr/bin/python\nx = (\n")
    assert concise("script") == ["script:2"]


def test_notebooks(here: Path) -> None:
    (here / "a.ipynb").write_bytes(NOT_PYTHON["book"])
    for args in (
        ["a.ipynb"],
        ["good.py", "a.ipynb"],
        ["a.ipynb", "--show-files"],
        ["-", "--stdin-filename", "a.ipynb"],
    ):
        result = run(*args, stdin=b"")
        assert result.exit_code == 2
        assert result.stderr.startswith("error: a.ipynb is a notebook, and its cells are not read yet")
    assert run(".", "--ignore", "GL002").stdout.endswith("\n1 notebook was skipped: cells are not read yet.\n")
    assert json.loads(run("--output-format", "json").stdout)["summary"]["skipped"] == {"notebooks": 1, "links": 0}


TRAINS = b"""import torch
model = torch.nn.Linear(2, 2)
opt = torch.optim.SGD(model.parameters(), lr=0.1)
def train(data):
    for x in data:
        opt.zero_grad()
        model(x).sum().backward()
        opt.step()
"""


def test_training_code_is_counted(here: Path) -> None:
    assert run("good.py").stdout.startswith("No training code in 1 file (read in ")
    (here / "train.py").write_bytes(TRAINS)
    (here / "net.py").write_bytes(b"import torch\nclass Net(torch.nn.Module):\n    'an optimizer'\n")
    for _ in range(2):  # anew, and from the cache
        result = run("good.py", "train.py", "net.py", "--cache-dir", "cache")
        assert result.stdout.startswith("All clear: 3 files read in ")
        assert result.stdout.endswith(", 1 with training code.\n")
    assert re.fullmatch(r"All clear: 1 file checked in .* s\.\n", run("train.py").stdout)


def test_what_is_cut_is_said_by_each_format(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ENTRY_WORK", 100)
    monkeypatch.setattr(limits, "ENTRY_LINE", 0)
    (here / "train.py").write_bytes(TRAINS + b"        f(x)\n" * 100)
    said = "`train` in train.py was followed in part only"
    for _ in range(2):  # anew, and from the cache
        result = run("train.py", "--cache-dir", "cache")
        assert result.exit_code == 0
        assert result.stdout.startswith("Found no mistakes (1 file checked in ")
        assert said in result.stdout
        assert result.stderr == ""
        document = json.loads(run("train.py", "--cache-dir", "cache", "--output-format", "json").stdout)
        assert document["cut"] == [{"path": "train.py", "name": "train"}]
        [log] = json.loads(run("train.py", "--cache-dir", "cache", "--output-format", "sarif").stdout)["runs"]
        [told] = log["invocations"][0]["toolExecutionNotifications"]
        assert (told["level"], told["message"]["text"].startswith(said)) == ("warning", True)
        assert f"note: {said}" in run("train.py", "--cache-dir", "cache", "-v").stderr
    assert run("train.py", "--output-format", "github").stdout.startswith(
        "::warning file=train.py,title=gradlint::`train`"
    )
    for words in (["--output-format", "concise"], ["--output-format", "gitlab"], ["-o", "out.txt"], ["--diff"]):
        result = run("train.py", *words)
        assert f"warning: {said}" in result.stderr
        assert run("train.py", "-q", *words).stderr == ""


# What is on


@pytest.mark.parametrize("words", [["--ignore", "ALL"], ["--select", "GL808"]])
def test_nothing_is_clear_where_no_rule_looks(here: Path, words: list[str]) -> None:
    error = "error: no rule that reads code is enabled, so nothing would be checked; see `gradlint rules`\n"
    result = run("good.py", *words)
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", error)
    (here / "gradlint.toml").write_text("select = []\n")
    assert run("good.py").stderr == error
    assert run("good.py", "--select", "GL001").exit_code == 0


def test_a_word_that_no_loaded_rule_has_is_told_where_rules_were_left_out(here: Path) -> None:
    (here / "mine").mkdir()
    (here / "gradlint.toml").write_text("rule-folders = ['mine']\nselect = ['GL1', 'GL1O1', 'XR1']\n")
    said = run("good.py").stderr.splitlines()
    assert [line.split(" is not a")[0] for line in said[1:]] == [
        'warning: "GL1O1" in gradlint.toml',
        'warning: "XR1" in gradlint.toml',
    ]
    assert run("good.py", "--select", "XR1").exit_code == 2


# Settings of folders


@pytest.fixture
def nested(here: Path) -> Path:
    """A project in which one folder has settings of its own, and another has none."""
    for name in ("a/idle.py", "a/gen/idle.py", "b/idle.py", "b/gen/idle.py"):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_bytes(IDLE.encode())
    (here / "a" / "gradlint.toml").write_text("ignore = ['GL002']\nexclude = ['/gen']\n", encoding="utf-8")
    return here


def test_settings_do_not_depend_on_the_order_of_the_paths(nested: Path) -> None:
    found = ["b/gen/idle.py:1", "b/idle.py:1"]
    assert concise("a", "b") == concise("b", "a") == found
    assert concise("a/idle.py", "b", "a/gen/idle.py") == found
    assert concise() == [*found, "idle.py:1"]
    assert concise("--extend-select", "GL002") == ["a/idle.py:1", *found, "idle.py:1"]
    assert concise("a") == []
    assert concise("--isolated", "a") == ["a/gen/idle.py:1", "a/idle.py:1"]
    assert run("a", "b", "--show-files").stdout.split() == ["a/idle.py", "b/gen/idle.py", "b/idle.py"]
    named = ["a/gen/idle.py", "b/idle.py", "--extend-select", "GL002"]
    assert concise(*named, "--force-exclude") == ["b/idle.py:1"]
    assert concise(*named) == ["a/gen/idle.py:1", "b/idle.py:1"]
    assert "note: settings from a/gradlint.toml\n" in run("a", "b", "-v").stderr
    (nested / "gradlint.toml").write_text("exclude = ['/b/gen']\n", encoding="utf-8")
    assert concise() == ["b/idle.py:1", "idle.py:1"]
    assert "note: settings from a/gradlint.toml, gradlint.toml\n" in run("a", "b", "-v").stderr


def test_what_is_no_matter_of_one_file_comes_from_above_all(nested: Path) -> None:
    (nested / "a" / "gradlint.toml").write_text("output-format = 'json'\nmin-confidence = 'low'\n", encoding="utf-8")
    assert json.loads(run("a").stdout)["version"] == 1
    assert run("a", "b").stdout.startswith("warning[unused-suppression]")


def test_settings_that_extend_others(nested: Path) -> None:
    text = "exclude = ['/a/gen', '/gen']\nper-file-ignores = {'/a/idle.py' = ['GL002']}\n"
    (nested / "gradlint.toml").write_text(text, encoding="utf-8")
    (nested / "a" / "gradlint.toml").write_text("extend = '../gradlint.toml'\n", encoding="utf-8")
    assert concise("a") == []
    (nested / "a" / "gradlint.toml").write_text("extend = '../gradlint.toml'\nexclude = []\n", encoding="utf-8")
    assert concise("a") == ["a/gen/idle.py:1"]
    (nested / "a" / "more").mkdir()
    (nested / "a" / "more" / "idle.py").write_bytes(IDLE.encode())
    (nested / "a" / "more" / "pyproject.toml").write_text("[tool.gradlint]\nselect = ['GL1']\n", encoding="utf-8")
    assert concise("a") == ["a/gen/idle.py:1"]


def test_rules_of_a_folder_are_for_its_files(nested: Path) -> None:
    (nested / "a" / "mine").mkdir()
    text = "from gradcheck_lint.rule import Rule\nclass R(Rule):\n    code, slug = 'XR101', 'my-own'\n"
    (nested / "a" / "mine" / "my_own.py").write_text(text, encoding="utf-8")
    settings = "rule-folders = ['mine']\nselect = ['XR101', 'GL002']\n"
    (nested / "a" / "gradlint.toml").write_text(settings, encoding="utf-8")
    for name in ("a", "b"):
        (nested / name / "idle.py").write_text("x = 1  # gradlint: ignore[XR101]\n", encoding="utf-8")
    words = ["a/idle.py", "b/idle.py", "--output-format", "concise"]
    in_a, in_b = run(*words, "--allow-rule-folders").stdout.splitlines()
    assert in_a.startswith("a/idle.py:1:8: GL002 [*] ")
    assert in_b.endswith("GL002 `XR101` is no rule, and suppresses nothing")
    left_out = run(*words)
    assert "warning: the rules in a/mine were left out" in left_out.stderr


# Where it goes


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("words", ["idle.py", "rules", "--help", "idle.py --diff", "idle.py -o -"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_is_no_mistake_of_ours(here: Path, words: str, unbuffered: str) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": unbuffered}
    command = [sys.executable, "-m", "gradcheck_lint", *words.split()]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, cwd=here, env=env, stdout=full, stderr=subprocess.PIPE, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr == b"error: the output cannot be written: No space left on device\n"


def test_the_name_of_a_file_says_the_format(here: Path) -> None:
    run("idle.py", "-o", "out.json")
    assert json.loads((here / "out.json").read_text())["version"] == 1
    run("idle.py", "-o", "out.sarif")
    assert json.loads((here / "out.sarif").read_text())["version"] == "2.1.0"
    run("idle.py", "-o", "out.json", "--output-format", "concise")
    assert (here / "out.json").read_text().startswith("idle.py:1:8: GL002")
    run("idle.py", "-o", "out.txt")
    assert (here / "out.txt").read_text().startswith("warning[unused-suppression]")
    (here / "gradlint.toml").write_text("output-format = 'gitlab'\n")
    run("idle.py", "-o", "out.json")
    assert json.loads((here / "out.json").read_text())[0]["check_name"] == "GL002"
    run("idle.py", "-o", "out.sarif")
    assert json.loads((here / "out.sarif").read_text())["version"] == "2.1.0"


@pytest.mark.parametrize("words", [["-o", "idle.py"], ["-o", "new.py"], ["script", "-o", "./script"]])
def test_a_report_does_not_take_the_place_of_code(here: Path, words: list[str]) -> None:
    (here / "script").write_text(IDLE)
    result = run(*words)
    assert result.exit_code == 2
    assert "choose another file for -o" in result.stderr
    assert (here / "idle.py").read_text() == (here / "script").read_text() == IDLE
    assert not (here / "new.py").exists()


def test_a_diff_goes_into_the_file_that_is_named(here: Path) -> None:
    printed = run("--diff", "idle.py").stdout_bytes
    result = run("--diff", "idle.py", "-o", "fix.patch")
    assert (result.exit_code, result.stdout) == (1, "")
    assert (here / "fix.patch").read_bytes() == printed != b""


# stdin


def test_stdin(here: Path) -> None:
    assert concise("-", stdin=IDLE.encode()) == ["-:1"]
    assert concise("-", "--stdin-filename", "pkg/train.py", stdin=IDLE.encode()) == ["pkg/train.py:1"]
    assert concise("-", "--stdin-filename", str(here / "train.py"), stdin=IDLE.encode()) == ["train.py:1"]
    assert concise("-", stdin=b"\xff") == ["-:1"]
    assert run("-", stdin=b"").exit_code == 0


def test_stdin_name_finds_the_configuration_and_its_patterns(here: Path) -> None:
    (here / "pkg").mkdir()
    (here / "pkg" / "gradlint.toml").write_text("per-file-ignores = {'train.py' = ['GL002']}\n", encoding="utf-8")
    assert concise("-", "--stdin-filename", "pkg/train.py", stdin=IDLE.encode()) == []
    assert concise("-", "--stdin-filename", "pkg/other.py", stdin=IDLE.encode()) == ["pkg/other.py:1"]


def test_stdin_fixed_is_written_to_stdout_byte_for_byte() -> None:
    data = b"\xef\xbb\xbfs = '\xc3\xa9'\r\n# gradlint: ignore[GL101]\r\nx = 1"
    result = run("-", "--fix", stdin=data)
    assert result.stdout_bytes == b"\xef\xbb\xbfs = '\xc3\xa9'\r\nx = 1"
    assert "Fixed 1 mistake." in result.stderr
    assert result.exit_code == 0
    assert run("-", "--fix", stdin=b"x = (").stdout_bytes == b"x = ("


def test_stdin_diff() -> None:
    result = run("-", "--diff", "--stdin-filename", "a.py", stdin=IDLE.encode())
    assert result.exit_code == 1
    assert result.stdout.splitlines() == ["--- a/a.py", "+++ b/a.py", "@@ -1 +1 @@", f"-{IDLE.strip()}", "+x = 1"]


# Fixes


def test_fix_writes_and_tells_what_remains(here: Path) -> None:
    (here / "broken.py").write_bytes(b"x = (\n")
    result = run("--fix")
    assert (here / "idle.py").read_bytes() == b"x = 1\n"
    assert result.exit_code == 1
    assert "broken.py" in result.stdout
    assert "Fixed 1 mistake." in result.stdout
    (here / "broken.py").unlink()
    again = run("--fix")
    assert again.exit_code == 0
    assert "Fixed" not in again.stdout


def test_diff_writes_nothing(here: Path) -> None:
    result = run("--diff")
    assert result.exit_code == 1
    assert "+x = 1\n" in result.stdout
    assert result.stderr == "note: 1 finding would be fixed in 1 file\n"
    assert (here / "idle.py").read_bytes() == IDLE.encode()
    assert run("--diff", "--fix").stdout == result.stdout
    assert (here / "idle.py").read_bytes() == IDLE.encode()
    assert run("--diff", "--exit-zero").exit_code == 0
    assert run("--diff", "-q").stderr == ""
    clean = run("--diff", "good.py")
    assert (clean.exit_code, clean.stdout, clean.stderr) == (0, "", "note: nothing would be fixed\n")


ODD = "s = '\x1b]0;title\x07\u202e\x9b1m'\r\nx = 1  # gradlint: ignore[GL101]\n"


def test_diff_to_a_file_is_a_patch_byte_for_byte(here: Path) -> None:
    data = "# coding: latin-1\né = '\x1b[31m'\r\n# gradlint: ignore[GL101]\n".encode("latin-1")
    (here / "a.py").write_bytes(data)
    result = run("--diff", "-q", "a.py")
    assert result.stdout_bytes.endswith(
        b" # coding: latin-1\n " + "é = '\x1b[31m'\r\n".encode("latin-1") + b"-# gradlint: ignore[GL101]\n"
    )


@pytest.mark.parametrize("colour", [True, False])
def test_diff_on_a_terminal_is_clean(here: Path, monkeypatch: pytest.MonkeyPatch, colour: bool) -> None:
    monkeypatch.setattr("gradcheck_lint.cli.linting.is_terminal", lambda stream: True)
    monkeypatch.setenv("FORCE_COLOR" if colour else "NO_COLOR", "1")
    (here / "a.py").write_text(ODD, encoding="utf-8", newline="")
    text = run("--diff", "-q", "a.py").stdout
    assert "s = '␛]0;title␇��1m'\n" in text
    assert not {"\x07", "\r", "\u202e", "\x9b"} & set(text)
    assert ("\x1b" in text) is colour


@pytest.mark.skipif(os.name == "nt", reason="names of files are freer elsewhere")
def test_names_of_files_do_nothing_in_a_terminal(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradcheck_lint.cli.linting.is_terminal", lambda stream: True)
    monkeypatch.setenv("NO_COLOR", "1")
    name = "\x1b[2Ja\n\u202e\x9b.py"
    (here / name).write_text(IDLE)
    (here / "\x1b[2Jb.py").write_text("def f(:\n")
    (here / "\x1b[2Jc.py").symlink_to("nowhere")
    for words in (["."], ["--output-format", "concise"], ["--output-format", "github"], ["--show-files"], ["--diff"]):
        result = run(*words)
        assert not {"\x1b", "\u202e", "\x9b"} & set(result.output), words
    assert "\x1b" not in run("\x1b[2Jnone.py").stderr
    assert "\x1b" not in run("--config", "\x1b[2Jnone.toml").stderr


def test_diff_tells_of_files_that_could_not_be_checked(here: Path) -> None:
    (here / "broken.py").write_bytes(b"x = (\n")
    assert run("--diff", "broken.py").stderr == "note: nothing would be fixed; 1 file could not be checked\n"


def unsafe(files: Sequence[SourceFile], rules: Sequence[Rule], **options: Any) -> list[Finding]:
    """An engine that wants each `a` in the first place of a file to be a `b`."""
    found = []
    for file in files:
        if file.data.startswith(b"a"):
            span = Span(file.path, 1, 1, 1, 2)
            fix = Fix("write b", Safety.UNSAFE, (Edit(span, "b"),))
            found.append(
                Finding("GL101", "missing-zero-grad", Severity.ERROR, Confidence.MEDIUM, "an a", span, fix=fix)
            )
    return found


def test_unsafe_fixes(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "analyse", unsafe)
    (here / "good.py").write_bytes(b"a = 1\n")
    assert run("good.py").exit_code == 0  # of medium confidence
    sure = ["good.py", "--min-confidence", "medium"]
    assert run(*sure, "--fix").exit_code == 1
    assert (here / "good.py").read_bytes() == b"a = 1\n"
    assert run(*sure, "--diff", "--unsafe-fixes").exit_code == 1
    assert (here / "good.py").read_bytes() == b"a = 1\n"
    assert run(*sure, "--unsafe-fixes").exit_code == 0
    assert (here / "good.py").read_bytes() == b"b = 1\n"


def test_unsafe_fixes_of_the_configuration_still_need_fix(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "analyse", unsafe)
    (here / "gradlint.toml").write_text("unsafe-fixes = true\nmin-confidence = 'low'\n", encoding="utf-8")
    (here / "good.py").write_bytes(b"a = 1\n")
    assert run("good.py").exit_code == 1
    assert (here / "good.py").read_bytes() == b"a = 1\n"
    assert run("good.py", "--fix").exit_code == 0
    assert (here / "good.py").read_bytes() == b"b = 1\n"


# What is told


@pytest.mark.parametrize("name", ["text", "concise", "json", "github", "gitlab", "sarif"])
def test_formats(name: str, here: Path) -> None:
    result = run("--output-format", name)
    assert result.exit_code == 1
    assert "GL002" in result.stdout
    if name in ("json", "gitlab", "sarif"):
        json.loads(result.stdout)
    filed = run("--output-format", name, "--output-file", "out.txt")
    assert (filed.exit_code, filed.stdout) == (1, "")
    without_time = re.compile(r"\d+\.\d+")
    written = (here / "out.txt").read_text(encoding="utf-8")
    assert without_time.sub("", written) == without_time.sub("", result.stdout)
    assert run("--output-format", name, "-o", "-").stdout


def test_sarif_has_the_help_of_the_rules() -> None:
    [rule] = json.loads(run("--output-format", "sarif").stdout)["runs"][0]["tool"]["driver"]["rules"]
    assert "suppresses" not in rule["shortDescription"]["text"]
    assert rule["help"]["markdown"].startswith("# GL002: unused-suppression")


def test_quiet_leaves_the_findings_alone() -> None:
    assert run("good.py", "-q").stdout == ""
    loud, quiet = run("idle.py").stdout, run("idle.py", "-q").stdout
    assert loud.startswith(quiet)
    assert "Found" in loud
    assert "Found" not in quiet


def test_statistics(here: Path) -> None:
    (here / "b.py").write_bytes(IDLE.encode() * 2)
    result = run("--statistics")
    assert result.exit_code == 1
    assert result.stdout.split()[:3] == ["3", "GL002", "unused-suppression"]
    assert json.loads(run("--statistics", "--output-format", "json").stdout)[0]["count"] == 3


def test_verbose_tells_the_settings(here: Path) -> None:
    assert "note: no configuration found, default settings" in run("-v", "good.py").stderr
    (here / "gradlint.toml").write_text("", encoding="utf-8")
    assert "note: settings from gradlint.toml" in run("-v", "good.py").stderr


def test_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b[" not in run().stdout
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[" in run().stdout
    assert "\x1b[" in run("rules").stdout
    assert "\x1b[" in run("explain", "GL001").stdout
    assert "\x1b[" in run("nowhere").stderr
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in run().stdout
    assert "\x1b[" not in run("nowhere").stderr


def test_colours_stay_out_of_files(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    run("-o", "out.txt")
    assert "\x1b[" not in (here / "out.txt").read_text(encoding="utf-8")


def broken(files: Sequence[SourceFile], rules: Sequence[Rule], **options: Any) -> list[Finding]:
    raise AnalysisError([], [Problem("good.py", "the rule GL101 broke", "Traceback: of the rule")])


@pytest.mark.parametrize("name", ["text", "concise", "json", "github", "gitlab", "sarif"])
def test_what_broke_inside_gradlint(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "analyse", broken)
    result = run("--output-format", name, "--exit-zero")
    assert result.exit_code == 2
    assert "the rule GL101 broke" in result.output
    assert "Traceback" not in result.output
    assert result.stderr.count("\n") <= 1
    assert "Traceback: of the rule" in run("--output-format", name, "-v").stderr


def test_what_broke_is_told_beside_statistics_and_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "analyse", broken)
    told = "problem: good.py: the rule GL101 broke (a bug in gradlint; please report it; -v shows the traceback)\n"
    for args in (["--statistics"], ["-o", "out.txt"], ["--diff"]):
        result = run(*args)
        assert result.exit_code == 2
        assert told in result.stderr


def test_what_nobody_thought_of_is_one_line_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_more(*args: Any) -> None:
        raise RuntimeError("no more")

    monkeypatch.setattr("gradcheck_lint.source.discovery.discover", no_more)
    result = run("--show-files")
    assert result.exit_code == 2
    assert result.stderr == "error: internal error: RuntimeError: no more (please report it; -v shows the traceback)\n"
    assert "Traceback" in run("--show-files", "-v").stderr


# explain, rules, completion


def test_explain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    result = run("explain", "GL002")
    assert result.exit_code == 0
    assert result.stdout == run("explain", "unused-suppression").stdout
    assert result.stdout.startswith("GL002 unused-suppression\n")
    prose = result.stdout.partition("\nExample\n")[0]
    assert 50 < max(map(len, prose.splitlines())) <= 60


def test_explain_shows_a_screen_with_one_example_as_a_diff_and_the_rest_with_all() -> None:
    short, whole = run("explain", "GL101").stdout, run("explain", "GL101", "--all").stdout
    assert len(short.splitlines()) < 60
    assert "\n  +     optimizer.zero_grad()\n        loss.backward()\n" in short
    assert re.search(r"\nAll \d+ examples: gradlint explain GL101 --all\n$", short)
    assert "\nFix safety\n  Safe." in short
    assert whole.count("\n  wrong:\n") > 5
    assert "--all" not in whole


def test_explain_takes_several_rules_prefixes_and_gives_json() -> None:
    assert re.findall(r"^(GL\d+) ", run("explain", "GL306", "missing-zero-grad").stdout, re.MULTILINE) == [
        "GL306",
        "GL101",
    ]
    told = json.loads(run("explain", "gl70", "GL701", "--output-format", "json").stdout)
    assert [page["code"][:4] for page in told] == ["GL70"] * len(told)
    assert len({page["code"] for page in told}) == len(told) > 2
    assert all("```" not in text for page in told for text in page["sections"].values())
    assert all(page["wrong"] and page["right"] for page in told)
    for words in (["GL101", "idle.py:1"], ["idle.py:1", "--output-format", "json"]):
        assert "idle.py:1 has to be explained by itself, as text" in run("explain", *words).stderr


@pytest.mark.parametrize(("lines", "paged"), [(10, True), (10_000, False)])
def test_explain_pages_what_is_longer_than_the_terminal(
    monkeypatch: pytest.MonkeyPatch, lines: int, paged: bool
) -> None:
    shown: list[str] = []
    monkeypatch.setattr("gradcheck_lint.cli.is_terminal", lambda stream: True)
    monkeypatch.setattr("click.echo_via_pager", shown.append)
    monkeypatch.setenv("LINES", str(lines))
    result = run("explain", "GL101")
    assert bool(shown) is paged
    assert (shown[0] if paged else result.stdout).startswith("GL101 missing-zero-grad\n")


UNCLEARED = """\
import torch
from torch.nn import functional as F

model = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
log = print


def note(opt):
    log(opt)


for x, y in [(torch.ones(1, 2), torch.ones(1, 1))] * 3:
    loss = F.mse_loss(model(x), y)
    loss.backward()
    if x.sum() > 0:
        optimizer.step()
    note(optimizer)
"""


def test_explain_a_finding_tells_the_events_on_the_way(here: Path) -> None:
    (here / "train.py").write_text(UNCLEARED, encoding="utf-8")
    told = run("explain", "train.py:15")
    assert told.exit_code == 0
    text = told.stdout
    assert text.startswith("error[missing-zero-grad] GL101: ")
    text = " ".join(text.split())
    steps = [
        "Followed from the module's own code in train.py.",
        "holds parameters of `model` (module of class Linear)",
        "for each iteration of `for x, y in [",
        "calls `model` (module of class Linear)",
        "> line 15: loss.backward()",
        "if it goes this way: `x.sum() > 0`",
        "line 17: optimizer.step()",
        "Confidence high.",
    ]
    places = [text.find(step) for step in steps]
    assert -1 not in places
    assert places == sorted(places)
    assert run("explain", "train.py:17").stdout == told.stdout, "a related place explains the same finding"


def test_explain_a_finding_names_what_was_not_followed(here: Path) -> None:
    text = UNCLEARED.replace("log = print", "from elsewhere import learn as log").replace("log(opt)", "log(opt)")
    (here / "train.py").write_text(text, encoding="utf-8")
    told = run("explain", "train.py:15").stdout
    assert "is not followed: it may clear, fill or use the gradients of `optimizer`" in told.replace(
        "\n" + " " * 10, " "
    )
    assert "Confidence medium. Not followed on the way: `learn`." in told or "`log`" in told


def test_explain_a_finding_of_a_class(here: Path) -> None:
    text = "import torch\n\n\nclass Net(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n"
    text += (
        "        self.parts = [torch.nn.Linear(2, 2)]\n\n    def forward(self, x):\n        return self.parts[0](x)\n"
    )
    (here / "net.py").write_text(text, encoding="utf-8")
    told = run("explain", "net.py:7")
    assert "GL308" in told.stdout
    assert "nothing was followed" in told.stdout


@pytest.mark.parametrize(
    ("word", "error"),
    [
        ("train.py:1", "error: nothing is found at line 1 of train.py; there are findings at 15\n"),
        ("good.py:1", "error: nothing is found at line 1 of good.py, nor anywhere else in it\n"),
        ("train.py", "error: say which line of train.py to explain, as in train.py:1\n"),
        ("none.py:3", 'error: "none.py" does not exist\n'),
    ],
)
def test_explain_of_a_line_without_a_finding_says_where_there_are_some(here: Path, word: str, error: str) -> None:
    (here / "train.py").write_text(UNCLEARED, encoding="utf-8")
    told = run("explain", word)
    assert told.exit_code == 2
    assert told.stderr.startswith(error)


def test_rules_as_table_and_json() -> None:
    table = run("rules")
    assert table.exit_code == 0
    rules = json.loads(run("rules", "--output-format", "json").stdout)
    assert [rule["code"] for rule in rules][:3] == ["GL001", "GL002", "GL003"]
    for rule in rules:
        assert rule["code"] in table.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script(shell: str) -> None:
    result = run("--show-completion", shell)
    assert result.exit_code == 0
    assert "_GRADLINT_COMPLETE" in result.stdout
    assert "complete" in result.stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["gradlint", "ru"], {"rules", "run"}),
        (["gradlint", "--unsa"], {"--unsafe-fixes"}),
        (["gradlint", "--fix", "--unsa"], {"--unsafe-fixes"}),
        (["gradlint", "--select", "GL00"], {"GL001", "GL002", "GL003"}),
        (["gradlint", "--select", "GL001,unu"], {"GL001,unused-suppression"}),
        (["gradlint", "explain", "unr"], {"unreadable-file"}),
        (["gradlint", "--output-format", "sa"], {"sarif"}),
    ],
)
def test_completion(words: list[str], expected: set[str]) -> None:
    env = {"_GRADLINT_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
    result = CliRunner().invoke(main, [], prog_name="gradlint", env=env)
    assert {line.partition(",")[2] for line in result.stdout.splitlines()} == expected


# As a process


def process(*args: str, cwd: Path, **extra: Any) -> subprocess.CompletedProcess[bytes]:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "gradcheck_lint", *args]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, timeout=60, check=False, **extra)


def test_as_a_module(here: Path) -> None:
    result = process("idle.py", cwd=here)
    assert result.returncode == 1
    assert b"idle.py:1:8" in result.stdout
    assert result.stderr == b""
    assert process("nowhere", cwd=here).stderr.decode().splitlines() == ['error: "nowhere" does not exist']


def test_what_the_output_cannot_write_is_escaped(here: Path) -> None:
    (here / "idle.py").write_text(f"s = 'é→𝛁'; {IDLE}", encoding="utf-8")
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "latin-1"}
    command = [sys.executable, "-m", "gradcheck_lint", "idle.py"]
    result = subprocess.run(command, cwd=here, env=env, capture_output=True, timeout=60, check=False)
    assert result.returncode == 1
    assert "é\\u2192\\U0001d6c1".encode("latin-1") in result.stdout


def test_linting_needs_no_torch(here: Path) -> None:
    script = """
        import sys
        sys.modules["torch"] = None
        from gradcheck_lint.cli import main
        main(["good.py"])
    """
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", textwrap.dedent(script)]
    assert subprocess.run(command, cwd=here, env=env, capture_output=True, timeout=60, check=False).returncode == 0


def start(here: Path, fake: str) -> subprocess.Popen[bytes]:
    """gradlint with an engine of its own."""
    script = f"""
        import sys, time
        from gradcheck_lint.source import engine, limits
        def analyse(files, rules, **options):
            {fake}
        engine.analyse = analyse
        from gradcheck_lint.cli import main
        main(["good.py"])
    """
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", textwrap.dedent(script)]
    return subprocess.Popen(
        command, cwd=here, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=hears_interrupts
    )


def hears_interrupts() -> None:
    """For a child, before it starts: of a job in the background it would inherit to be deaf to SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGINT of this kind")
def test_interrupt_ends_quietly(here: Path) -> None:
    child = start(here, "print('ready', flush=True); time.sleep(60); return []")
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=30)
    assert child.returncode == 130
    assert out.strip() == err.strip() == b""


@pytest.mark.skipif(sys.platform == "win32", reason="has pipes of another kind")
def test_broken_pipe_ends_quietly(here: Path) -> None:
    child = start(here, "sys.stderr.write('ready\\n'); sys.stderr.flush(); time.sleep(0.5); return []")
    assert child.stdout is not None
    assert child.stderr is not None
    assert child.stderr.readline() == b"ready\n"
    child.stdout.close()
    assert child.stderr.read() == b""
    assert child.wait(timeout=30) == 1
