"""What lets a project with old mistakes begin: baselines, revisions, and what the exit code is made of."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gradcheck_lint.cli import main
from gradcheck_lint.source import revision

BAD = """\
import torch
model = torch.nn.Linear(2, 1)
opt = torch.optim.SGD(model.parameters(), lr=0.1)
for x in range(9):
    loss = model(torch.randn(3, 2)).sum()
    loss.backward()
    opt.step()
"""
MORE = "for x in range(9):\n    total = model(torch.randn(3, 2)).sum()\n    total.backward()\n    opt.step()\n"
GOOD = BAD.replace("    loss =", "    opt.zero_grad()\n    loss =")
FILE = "gradlint-baseline.json"
OF_THE_BASELINE = ("--baseline", FILE)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GRADLINT_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "a.py").write_text(BAD)
    (tmp_path / "b.py").write_text(BAD)
    return tmp_path


def run(*args: str, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(main, args, env=env)


def told(*args: str) -> list[str]:
    result = run(*args, "--output-format", "concise")
    return [line.rpartition(":")[0].rpartition(":")[0] for line in result.stdout.splitlines()]


def entries(file: str = FILE) -> list[tuple[str, str, int]]:
    document = json.loads(Path(file).read_text())
    return [(path, e["code"], e["count"]) for path, of in document["findings"].items() for e in of]


# ---------------------------------------------------------------- a baseline


def test_what_is_in_the_baseline_is_not_told_where_code_around_it_moves(here: Path) -> None:
    written = run("baseline", "write")
    assert written.exit_code == 0
    assert "Wrote gradlint-baseline.json: 2 findings." in written.stdout
    assert f"--baseline {FILE}" in written.stderr
    assert entries() == [("a.py", "GL101", 1), ("b.py", "GL101", 1)]
    (here / "a.py").write_text("\n\n" + BAD.replace("range(9)", "range( 9 )"))
    result = run(*OF_THE_BASELINE)
    assert result.exit_code == 0
    assert "Found no new mistakes" in result.stdout
    assert "2 known mistakes were left out." in result.stdout
    assert "All clear" not in result.stdout
    assert json.loads(run(*OF_THE_BASELINE, "--output-format", "json").stdout)["summary"]["known"] == 2


def test_what_is_new_is_told_and_one_of_two_equal_ones_is_new(here: Path) -> None:
    run("baseline", "write")
    (here / "a.py").write_text(BAD + MORE)
    assert told(*OF_THE_BASELINE) == ["a.py:10"]
    (here / "b.py").write_text(BAD + BAD.split("\n", 3)[3])
    assert told(*OF_THE_BASELINE) == ["a.py:10", "b.py:10"]
    assert run(*OF_THE_BASELINE).exit_code == 1


def test_the_configuration_names_it_and_the_command_line_another(here: Path) -> None:
    (here / "gradlint.toml").write_text(f'baseline = "known/{FILE}"\n')
    (here / "known").mkdir()
    missing = run()
    assert missing.exit_code == 2
    assert missing.stderr.startswith(
        f"error: the baseline known/{FILE} does not exist; `gradlint baseline write` creates it"
    )
    written = run("baseline", "write")
    assert "note" not in written.stderr
    assert entries(f"known/{FILE}")[0][0] == "../a.py"
    assert run().exit_code == 0
    run("baseline", "write", "a.py", "--baseline", "other.json")
    assert told("--baseline", "other.json") == ["b.py:6"]
    assert run("--isolated").exit_code == 1


@pytest.mark.parametrize("value", ['"../known.json"', '"/known.json"', "3", '""'])
def test_the_configuration_names_none_outside_of_the_project(here: Path, value: str) -> None:
    (here / "gradlint.toml").write_text(f"baseline = {value}\n")
    assert "baseline has to be a file below the folder of the configuration" in run().stderr


def test_it_shrinks_and_takes_nothing_in_unasked(here: Path) -> None:
    run("baseline", "write")
    (here / "a.py").write_text(BAD + MORE)
    (here / "b.py").write_text(GOOD)
    checked = run("baseline", "check")
    assert checked.exit_code == 1
    assert checked.stdout.splitlines() == [
        "b.py: GL101 is gone: loss.backward()",
        "a.py: GL101 is new: total.backward()",
    ]
    written = run("baseline", "write")
    assert written.exit_code == 1
    assert "1 new finding not added; use --add-new to add them" in written.stderr
    assert entries() == [("a.py", "GL101", 1)]
    assert run("baseline", "write", "--add-new").exit_code == 0
    assert entries() == [("a.py", "GL101", 1), ("a.py", "GL101", 1)]
    assert "is up to date: 2 findings" in run("baseline", "check").stdout


def test_what_was_not_looked_for_stays_in_it(here: Path) -> None:
    run("baseline", "write")
    before = Path(FILE).read_bytes()
    for narrow in (["a.py"], ["--select", "GL3"], ["--min-confidence", "high", "a.py"]):
        run("baseline", "write", *narrow)
        assert Path(FILE).read_bytes() == before
    (here / "a.py").write_text("def f(:\n")  # it cannot be checked
    run("baseline", "write")
    assert Path(FILE).read_bytes() == before
    (here / "a.py").unlink()
    run("baseline", "write", "b.py")
    assert Path(FILE).read_bytes() == before
    run("baseline", "write")
    assert entries() == [("b.py", "GL101", 1)]


def test_a_file_that_could_not_be_checked_is_never_known(here: Path) -> None:
    (here / "a.py").write_text("def f(:\n")
    run("baseline", "write")
    assert entries() == [("b.py", "GL101", 1)]
    assert told(*OF_THE_BASELINE) == ["a.py:1"]


ENTRY = '{"code": "", "text": "", "message": "", "confidence": "x", "count": 1}'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"version": 1}',
        '{"version": 1, "findings": {"a.py": [{"code": 3}]}}',
        f'{{"version": 1, "findings": {{"a.py": [{ENTRY}]}}}}',
        "[" * 100_000,
        "\0",
    ],
    ids=range(8),
)
def test_a_file_that_is_no_baseline_is_refused_and_kept(here: Path, text: str) -> None:
    (here / "other.json").write_text(text)
    for words in (["--baseline", "other.json"], ["baseline", "write", "--baseline", "other.json"]):
        result = run(*words)
        assert result.exit_code == 2
        assert "other.json is not a gradlint baseline" in result.stderr
        assert (here / "other.json").read_text() == text


def test_no_baseline_takes_the_place_of_code_or_is_read_by_a_later_version(here: Path) -> None:
    assert "looks like source code" in run("baseline", "write", "--baseline", "a.py").stderr
    assert (here / "a.py").read_text() == BAD
    (here / FILE).write_text('{"version": 9, "findings": {}}')
    assert "was written by another version of gradlint" in run(*OF_THE_BASELINE).stderr


# ---------------------------------------------------------------- a revision


def git(*words: str) -> None:
    named = ["-c", "user.name=n", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *named, *words], check=True, capture_output=True)


needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


@needs_git
def test_what_was_found_at_a_revision_is_left_out(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git("init", "-q")
    (here / "sub").mkdir()
    (here / "sub" / "c.py").write_text(BAD)
    git("add", "a.py", "sub/c.py")
    git("commit", "-q", "-m", "one")
    assert told("--since", "HEAD") == ["b.py:6"]  # git has not got it
    (here / "a.py").write_text("\n" + GOOD.replace("    opt.zero_grad()\n", "") + MORE)
    assert told("--since", "HEAD", "a.py") == ["a.py:11"]
    monkeypatch.chdir(here / "sub")
    assert told("--since", "HEAD") == []
    assert told("--since", "HEAD", "../a.py") == ["../a.py:11"]
    monkeypatch.chdir(here)
    git("add", ".")
    git("commit", "-q", "-m", "two")
    (here / "a.py").write_text(GOOD)
    git("commit", "-q", "-a", "-m", "three")
    (here / "a.py").write_text(BAD)  # the line that cleared them is gone
    assert told("--since", "HEAD", "a.py") == ["a.py:6"]
    assert told("--since", "HEAD~1", "a.py") == []


@needs_git
@pytest.mark.parametrize("name", ["nothing", "--upload-pack=x", ""])
def test_a_revision_that_is_none_is_a_clear_error(here: Path, name: str) -> None:
    git("init", "-q")
    result = run(f"--since={name}")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1


@needs_git
def test_no_repository_no_git_and_stdin_are_clear_errors(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(here.parent))
    assert "not a git repository" in run("--since", "HEAD").stderr
    assert "cannot be used with `-`" in run("--since", "HEAD", "-").stderr
    monkeypatch.setenv("PATH", os.curdir)
    assert "git was not found" in run("--since", "HEAD").stderr


@needs_git
@pytest.mark.skipif(os.name == "nt", reason="the programs are shell scripts")
def test_git_runs_nothing_that_the_repository_names(here: Path) -> None:
    git("init", "-q")
    (here / ".gitattributes").write_text("*.py filter=mine diff=mine\n")
    git("add", ".gitattributes", "a.py")
    git("commit", "-q", "-m", "one")
    harm = f"touch {here / 'harm'}; cat"
    for key in ("filter.mine.smudge", "filter.mine.clean", "diff.mine.textconv", "diff.external", "core.fsmonitor"):
        git("config", key, harm)
    assert told("--since", "HEAD") == ["b.py:6"]
    assert not (here / "harm").exists()


def test_files_are_unpacked_below_the_folder_alone(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    revision.unpack([("../out.py", b""), ("a/../../out.py", b""), ("a\\b.py", b""), ("a/b.py", b"x")], inside)
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*.py"))][-1] == "inside/a/b.py"
    assert not (tmp_path / "out.py").exists()


@needs_git
def test_a_baseline_and_a_revision_hide_the_same_finding_once(here: Path) -> None:
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "one")
    run("baseline", "write")
    (here / "a.py").write_text(BAD + BAD.split("\n", 3)[3])
    assert told(*OF_THE_BASELINE, "--since", "HEAD") == ["a.py:10"]


@needs_git
def test_another_repository_in_the_environment_is_not_asked(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git("init", "-q")
    (here / "sub").mkdir()
    (here / "sub" / "c.py").write_text(BAD)
    git("add", ".")
    git("commit", "-q", "-m", "one")
    monkeypatch.chdir(here / "sub")
    monkeypatch.setenv("GIT_DIR", str(here / ".git"))
    assert told("--since", "HEAD") == []


@needs_git
def test_a_commit_that_is_not_all_there_is_an_error(here: Path) -> None:
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "one")
    blob = subprocess.run(["git", "rev-parse", "HEAD:a.py"], check=True, capture_output=True, text=True).stdout.strip()
    (here / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    result = run("--since", "HEAD")
    assert result.exit_code == 2
    assert "2 files of" in result.stderr  # they are equal


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_link_on_the_way_changes_no_path(here: Path) -> None:
    (here / "real").mkdir()
    (here / "real" / "c.py").write_text(BAD)
    (here / "link").symlink_to("real")
    run("baseline", "write", "real", "--baseline", "real/known.json")
    assert told("link/c.py", "--baseline", "link/known.json") == []
    assert told("real/c.py", "--baseline", "link/known.json") == []


def test_fixes_leave_what_is_known_as_it_is(here: Path) -> None:
    run("baseline", "write", "b.py")
    assert run(*OF_THE_BASELINE, "--fix").exit_code == 0
    assert (here / "b.py").read_text() == BAD
    assert (here / "a.py").read_text() == GOOD.replace("    opt.zero_grad()\n", "", 1).replace(
        "    loss.backward()", "    opt.zero_grad()\n    loss.backward()"
    )
    assert run(*OF_THE_BASELINE, "--diff").exit_code == 0


def test_a_baseline_leaves_out_what_linting_leaves_out_and_is_of_files(here: Path) -> None:
    run("baseline", "write", "--exclude", "b.py")
    assert entries() == [("a.py", "GL101", 1)]
    assert "not in stdin" in run("baseline", "write", "-").stderr


# ---------------------------------------------------------------- exit codes, words, variables


def test_the_exit_code_can_be_made_of_errors_alone(here: Path) -> None:
    (here / "a.py").write_text("x = 1  # gradlint: ignore[GL101]\n")
    assert run("a.py").exit_code == 1
    assert run("a.py", "--fail-level", "error").exit_code == 0
    assert run("b.py", "--fail-level", "error").exit_code == 1


def test_a_fix_can_count_as_a_finding(here: Path) -> None:
    assert run("a.py", "--fix").exit_code == 0
    assert run("b.py", "--fix", "--exit-non-zero-on-fix").exit_code == 1
    assert run("b.py", "--fix", "--exit-non-zero-on-fix").exit_code == 0


def test_check_is_another_word_for_lint_and_help_shows_help() -> None:
    assert told("check", "a.py") == told("a.py") == ["a.py:6"]
    assert told("./a.py") == ["a.py:6"]
    assert run("help").stdout == run("--help").stdout
    assert "write|check" in run("help", "baseline").stdout
    assert 'did you mean "check"?' in run("help", "chek").stderr


def test_a_variable_gives_an_option_and_the_command_line_wins(here: Path) -> None:
    env = {"GRADLINT_OUTPUT_FORMAT": "pylint", "GRADLINT_IGNORE": "GL3,GL1", "GRADLINT_EXIT_ZERO": "1"}
    assert "a.py:6: [GL101(missing-zero-grad)]" in run("a.py", env=env | {"GRADLINT_IGNORE": ""}).stdout
    assert run("a.py", env=env).stdout == ""
    assert run("a.py", "--output-format", "json", env=env).stdout.startswith("{")
    wrong = run("a.py", env={"GRADLINT_OUTPUT_FORMAT": "xml"})
    assert wrong.exit_code == 2
    assert "(from GRADLINT_OUTPUT_FORMAT)" in wrong.stderr


def test_no_variable_has_files_changed_or_code_run(here: Path) -> None:
    env = {
        f"GRADLINT_{name}": "1"
        for name in ("FIX", "UNSAFE_FIXES", "DIFF", "SHOW_FILES", "STDIN_FILENAME", "OUTPUT_FILE", "SINCE")
    }
    run("a.py", env=env)
    assert (here / "a.py").read_text() == BAD


# ---------------------------------------------------------------- comments that suppress


def test_a_comment_is_added_for_each_finding_and_only_what_is_new(here: Path) -> None:
    run("baseline", "write", "b.py")
    added = run("--add-noqa", *OF_THE_BASELINE)
    assert "1 finding suppressed" in added.stderr
    assert (added.exit_code, (here / "b.py").read_text()) == (0, BAD)
    text = BAD.replace("    loss.backward()\n", "    loss.backward()  # gradlint: ignore[missing-zero-grad]\n")
    assert (here / "a.py").read_text() == text
    assert run("a.py").exit_code == 0
    assert "Fixed" not in added.stdout


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("loss.backward(\n    )", "loss.backward(  # gradlint: ignore[missing-zero-grad]\n    )"),
        ("loss \\\n        .backward()", "loss \\\n        .backward()  # gradlint: ignore[missing-zero-grad]"),
        ("loss.backward()  # now", "loss.backward()  # now  # gradlint: ignore[missing-zero-grad]"),
        ('loss.backward(); """\n"""', 'loss.backward(); """\n"""  # gradlint: ignore[missing-zero-grad]'),
        (
            "loss.backward()  # gradlint: ignore[GL3, GL002] why",
            "loss.backward()  # gradlint: ignore[GL3, GL002, missing-zero-grad] why",
        ),
        ("loss.backward()\r", "loss.backward()  # gradlint: ignore[missing-zero-grad]\r"),
    ],
    ids=["brackets", "backslash", "comment", "string", "list", "crlf"],
)
def test_a_comment_stands_where_one_can_and_joins_one_that_is_there(here: Path, before: str, after: str) -> None:
    (here / "a.py").write_bytes(BAD.replace("loss.backward()", before).encode())
    run("--add-noqa", "a.py", "-q")
    assert (here / "a.py").read_bytes() == BAD.replace("loss.backward()", after).encode()


def test_comments_can_be_shown_first_and_are_not_mixed_with_fixes(here: Path) -> None:
    shown = run("--add-noqa", "--diff", "a.py")
    assert "+    loss.backward()  # gradlint: ignore[missing-zero-grad]" in shown.stdout
    assert "1 finding would be suppressed in 1 file" in shown.stderr
    assert "cannot be combined" in run("--add-noqa", "--fix").stderr
    assert (here / "a.py").read_text() == BAD
    (here / "a.py").write_text("def f(:\n")
    assert run("--add-noqa", "a.py").exit_code == 1
    assert (here / "a.py").read_text() == "def f(:\n"
