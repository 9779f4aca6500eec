"""`report/text.py`: the shape that docs/architecture.md promises, and the line that sums up."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from report_samples import BARE, CARRIED, REBOUND, UNREADABLE

from gradcheck_lint.finding import Confidence, Finding, Related, Safety, Severity, Span
from gradcheck_lint.report import text
from gradcheck_lint.result import Problem, Result, Skipped


def shown(finding: Finding, sources: dict[str, str]) -> str:
    """One finding without the summary."""
    rendered = text.render(Result((finding,), 1, 0.1, training=1), sources=sources)
    body, _, summary = rendered.rstrip("\n").rpartition("\n\n")
    assert summary.startswith("Found 1 mistake in 1 file")
    return body


def summary(*findings: Finding, files: int = 12, seconds: float = 0.4321, **more: object) -> str:
    return text.summary(Result(findings, files, seconds, **({"training": files} | more)))  # type: ignore[arg-type]


def test_the_shape_of_a_finding(sources: dict[str, str]) -> None:
    assert (
        shown(CARRIED, sources)
        == """\
error[missing-zero-grad] GL101: gradients are carried over from the previous step
  --> train.py:11:9
 5 | optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
   |             ------------------------------------------- the optimizer is built here
...
11 |         loss.backward()
   |         ^^^^^^^^^^^^^^^ adds to the gradients left by the last iteration
12 |         optimizer.step()
   |         ---------------- uses the sum of all batches
  why:  `optimizer.step()` does not clear `.grad`, so every update repeats earlier batches
  help: call `optimizer.zero_grad()` before `loss.backward()`
  note: for deliberate accumulation, clear every k steps; see `gradlint explain GL101`
  fix:  available with --fix"""
    )


def test_a_finding_that_says_little(sources: dict[str, str]) -> None:
    assert (
        shown(BARE, sources)
        == """\
error[missing-zero-grad] GL101: gradients are carried over from the previous step
  --> train.py:11:9
11 |         loss.backward()
   |         ^^^^^^^^^^^^^^^ adds to the gradients left by the last iteration"""
    )


def test_places_in_other_files_have_their_own_snippet_and_unsure_findings_say_so(sources: dict[str, str]) -> None:
    sources["src/my train é.py"] = "\n\nnet.w = (\n)\n"
    assert (
        shown(REBOUND, sources)
        == """\
warning[parameter-rebound] GL201: a parameter is replaced after the optimizer took it (medium confidence)
  --> src/my train é.py:3:1
 3 | net.w = (
   | ^^^^^^^^^
  ::: model.py:3:9
 3 |         self.fc = nn.Linear(4, 1)
   |         ------------------------- the layer is built here
  fix:  copy the values instead (available with --unsafe-fixes)"""
    )


def test_without_the_source_places_are_told_by_their_numbers() -> None:
    assert (
        shown(replace(CARRIED, why="", help="", note="", fix=None), {})
        == """\
error[missing-zero-grad] GL101: gradients are carried over from the previous step
  --> train.py:11:9 adds to the gradients left by the last iteration
  ::: train.py:5:13 the optimizer is built here
  ::: train.py:12:9 uses the sum of all batches"""
    )


def test_a_line_that_the_source_lacks_is_no_reason_to_fail() -> None:
    assert "--> train.py:11:9 adds" in shown(BARE, {"train.py": "one line\n"})


def test_a_finding_at_the_empty_last_line_is_shown() -> None:
    at_end = replace(BARE, span=Span("train.py", 2, 1, 2, 1), label="")
    assert shown(at_end, {"train.py": "x = (\n"}).splitlines()[1:] == ["  --> train.py:2:1", " 2 |", "   | ^"]


def test_what_a_rule_has_said_it_does_not_say_again(sources: dict[str, str]) -> None:
    other = replace(CARRIED, span=Span("train.py", 12, 9, 12, 25), help="do something else")
    third = replace(other, span=Span("train.py", 10, 9, 10, 13))
    rendered = text.render(Result((CARRIED, other, third, replace(third, code="GL102")), 1, 0.1), sources=sources)
    first, second, last, of_another, _ = rendered.split("\n\n")
    assert "  why:" in first
    assert [line[:7] for line in second.splitlines() if line.startswith("  ") and ":" in line[:7]] == [
        "  help:", "  fix: ",
    ]  # fmt: skip
    assert "help:" not in last
    assert "  why:" in of_another
    assert "  help:" in of_another


def test_large_line_numbers_move_the_gutter() -> None:
    far = replace(BARE, span=Span("train.py", 1234, 1, 1234, 2), label="here")
    assert shown(far, {"train.py": "\n" * 1233 + "x\n"}).splitlines()[1:] == [
        "    --> train.py:1234:1",
        "1234 | x",
        "     | ^ here",
    ]


def test_long_sentences_are_wrapped_under_themselves(sources: dict[str, str]) -> None:
    lines = shown(replace(BARE, help="do this " * 30), sources).splitlines()[4:]
    assert len(lines) == 3
    assert lines[0].startswith("  help: do this")
    assert all(line.startswith(("        do this", "        this")) for line in lines[1:])
    assert max(map(len, lines)) <= 110


def test_what_a_file_holds_cannot_control_the_terminal() -> None:
    evil = replace(
        BARE,
        message="\x1b[2J",
        label="\x1b[31m",
        help="`\x1b]0;x\x07`",
        span=Span("a\x1b[1m.py", 1, 1, 1, 2),
        related=(Related("\x9b2J", Span("a\x1b[1m.py", 1, 1, 1, 2)),),
    )
    rendered = text.render(
        Result((evil,), 1, 0.1, (Problem("b\x1b.py", "\x1b[2J"),)), sources={"a\x1b[1m.py": "x = '\x1b[2J\x9b'"}
    )
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", rendered)


def test_colours_change_nothing_but_colours(everything: Result, sources: dict[str, str]) -> None:
    coloured = text.render(everything, colour=True, sources=sources)
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == text.render(everything, sources=sources)
    assert "\x1b[1;31merror[missing-zero-grad] GL101\x1b[0m" in coloured
    assert "\x1b[1;33mwarning[parameter-rebound] GL201\x1b[0m" in coloured
    assert "\x1b[1;34m11 |\x1b[0m         loss.backward()" in coloured
    assert "\x1b[" not in text.render(everything, sources=sources)


def test_problems_are_told_and_only_our_own_are_to_be_reported(everything: Result) -> None:
    body = text.render(everything).split("\n\n")
    assert (
        body[-3]
        == """\
problem: odd.py: KeyError: 'x' in GL112
  note: this is a bug in gradlint, not in your code; please report it"""
    )
    assert body[-2] == "problem: no workers"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param(summary(), "All clear: 12 files checked in 0.4 s.", id="clean"),
        pytest.param(summary(files=1, seconds=0.012), "All clear: 1 file checked in 0.01 s.", id="one file"),
        pytest.param(summary(seconds=75.9), "All clear: 12 files checked in 1 min 15 s.", id="minutes"),
        pytest.param(
            summary(training=3), "All clear: 12 files read in 0.4 s, 3 with training code.", id="not all train"
        ),
        pytest.param(summary(training=0), "No training code in 12 files (read in 0.4 s).", id="none trains"),
        pytest.param(
            summary(BARE, training=0),
            "Found 1 mistake in 1 file (12 files read in 0.4 s, none with training code).",
            id="a mistake all the same",
        ),
        pytest.param(
            summary(cut=(("a.py", "train"),)),
            "Found no mistakes (12 files checked in 0.4 s).\n"
            "`train` in a.py was followed in part only, as it is too much to follow.",
            id="cut",
        ),
        pytest.param(
            summary(BARE, cut=(("a.py", ""), ("a.py", "train"))),
            "Found 1 mistake in 1 file (12 files checked in 0.4 s).\n"
            "2 functions were followed in part only; -v names them.",
            id="cut at two places",
        ),
        pytest.param(
            summary(skipped=Skipped(1, 1)),
            "All clear: 12 files checked in 0.4 s.\n"
            "1 notebook was skipped: cells are not read yet. "
            "1 link was skipped that leads nowhere or out of the project.",
            id="skipped",
        ),
        pytest.param(
            summary(files=0, skipped=Skipped(notebooks=3)),
            "No Python files to check.\n3 notebooks were skipped: cells are not read yet.",
            id="notebooks only",
        ),
        pytest.param(summary(files=0), "No Python files to check.", id="nothing there"),
        pytest.param(summary(BARE), "Found 1 mistake in 1 file (12 files checked in 0.4 s).", id="one"),
        pytest.param(
            summary(BARE, CARRIED, CARRIED, replace(BARE, span=Span("b.py", 1, 1, 1, 1))),
            "Found 4 mistakes in 2 files (12 files checked in 0.4 s). 2 can be fixed with --fix.",
            id="several",
        ),
        pytest.param(
            summary(CARRIED, REBOUND),
            "Found 2 mistakes in 2 files (12 files checked in 0.4 s). 1 can be fixed with --fix. "
            "1 more with --unsafe-fixes.",
            id="both kinds of fixes",
        ),
        pytest.param(
            summary(REBOUND),
            "Found 1 mistake in 1 file (12 files checked in 0.4 s). 1 can be fixed with --unsafe-fixes.",
            id="only unsafe fixes",
        ),
        pytest.param(
            summary(UNREADABLE),
            "Found no mistakes (11 files checked in 0.4 s). 1 file could not be checked.",
            id="unreadable",
        ),
        pytest.param(
            summary(problems=(Problem("", "no workers"),)),
            "Found no mistakes (12 files checked in 0.4 s).",
            id="a problem is not all clear",
        ),
        pytest.param(summary(fixed=2), "Fixed 2 mistakes. All clear: 12 files checked in 0.4 s.", id="all fixed"),
        pytest.param(
            summary(BARE, fixed=1),
            "Fixed 1 mistake. Found 1 mistake left in 1 file (12 files checked in 0.4 s).",
            id="some fixed",
        ),
    ],
)
def test_the_summary(line: str, expected: str) -> None:
    assert line == expected + "\n"


def test_a_clean_run_says_so_in_green(clean: Result) -> None:
    assert text.render(clean) == "All clear: 12 files checked in 0.3 s.\n"
    assert text.render(clean, colour=True) == "\x1b[1;32mAll clear: 12 files checked in 0.3 s.\x1b[0m\n"


@pytest.mark.parametrize(
    "result",
    [
        Result((BARE,), 1, 0.1),
        Result((UNREADABLE,), 1, 0.1),
        Result((), 1, 0.1, (Problem("", "no workers"),)),
        Result((), 0, 0.1),
        Result((), 1, 0.1),
        Result((), 1, 0.1, cut=(("a.py", ""),), training=1),
    ],
    ids=["a mistake", "an unreadable file", "a problem", "no file", "no training code", "a cut"],
)
def test_nothing_else_is_green(result: Result) -> None:
    assert text.summary(result, colour=True).startswith("\x1b[1m")


def test_every_severity_and_safety_and_confidence_can_be_shown(sources: dict[str, str]) -> None:
    for severity in Severity:
        for confidence in Confidence:
            for safety in Safety:
                assert CARRIED.fix is not None
                fix = replace(CARRIED.fix, safety=safety)
                shown(replace(CARRIED, severity=severity, confidence=confidence, fix=fix), sources)
