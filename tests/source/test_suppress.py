"""Comments that silence findings, and the ones that silence nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gradcheck_lint.finding import Confidence, Finding, Safety, Severity, Span
from gradcheck_lint.rule import Rule
from gradcheck_lint.source import comments
from gradcheck_lint.source.edit import plan
from gradcheck_lint.source.file import SourceFile, decode
from gradcheck_lint.source.suppress import suppress


def rule(code: str, slug: str, **words: object) -> Rule:
    return type("Made", (Rule,), {"code": code, "slug": slug, **words})()


RULES = [
    rule("GL002", "unused-suppression"),
    rule("GL101", "missing-zero-grad"),
    rule("GL102", "zero-grad-once-per-epoch"),
    rule("GL201", "parameter-rebound"),
    rule("GL208", "gradient-to-untracked-leaf", witnesses=frozenset({"run"})),
    rule("GL901", "costly", default=False),
]
USUAL = frozenset({"GL002", "GL101", "GL102", "GL201", "GL208"})


def finding(line: int, end: int | None = None, code: str = "GL101", column: int = 1) -> Finding:
    slug = next(rule.slug for rule in RULES if rule.code == code)
    span = Span("x.py", line, column, end or line, column + 3)
    return Finding(code, slug, Severity.ERROR, Confidence.HIGH, "wrong", span)


def left(
    text: str, *found: Finding, on: frozenset[str] | None = USUAL, rules: list[Rule] = RULES
) -> list[tuple[str, int]]:
    kept = suppress("x.py", text.encode(), text, found, rules, on)
    return [(finding.code, finding.span.line) for finding in kept]


def told(text: str, *found: Finding, on: frozenset[str] | None = USUAL) -> list[Finding]:
    kept = suppress("x.py", text.encode(), text, found, RULES, on)
    return [finding for finding in kept if finding.code == "GL002"]


def mended(text: str, *found: Finding) -> str:
    file = SourceFile("x.py", Path("x.py"), text.encode())
    step = plan(told(text, *found), {"x.py": file})
    assert all(finding.fix.safety is Safety.SAFE for finding in step.applied if finding.fix)
    return decode(step.changes["x.py"].data) if step.changes else text


# What is silenced


@pytest.mark.parametrize(
    "comment",
    [
        "# gradlint: ignore[GL101]",
        "# gradlint: ignore[missing-zero-grad]",
        "# gradlint: ignore[GL101, GL102]",
        "# gradlint: ignore[ GL102,GL101 ]",
        "# gradlint:ignore[gl101]",
        "#gradlint: ignore [GL101]",
        "# GradLint: Ignore[GL101]",
        "# gradlint: ignore",
        "# gradlint: ignore[GL101] because the sum is wanted",
        "# gradlint: ignore, see issue #12",
        "# type: ignore  # gradlint: ignore[GL101]",
        "# type: ignore # gradlint: ignore[GL101] # pragma: no cover",
        "# the sum is wanted  # gradlint: ignore[GL101]",
        "# noqa",
        "# NOQA",
        "# noqa: GL101",
        "#noqa:E501,GL101",
        "# noqa: E501 GL101",
        "# noqa : gl101 -- because",
        "# noqa: the sum is wanted",
        "# type: ignore # noqa: GL101",
        "# gradlint: skip-file",
        "# gradlint: ignore-file",
        "# gradlint: ignore[GL10]",
        "# gradlint: ignore[gl1]",
        "# gradlint: ignore-file[GL101]",
        "# gradlint: ignore-file [GL2, GL1] as the sums are wanted",
    ],
)
def test_silenced(comment: str) -> None:
    assert ("GL101", 1) not in left(f"x = 1  {comment}\n", finding(1))


@pytest.mark.parametrize(
    "comment",
    [
        "",
        "# gradlint: ignore[GL102]",
        "# gradlint: ignore[]",
        "# gradlint: ignore[GL2]",
        "# gradlint: ignore[G]",
        "# noqa: GL10",
        "# gradlint: ignore-file[GL2]",
        "# gradlint: ignore-file(GL101)",
        "# gradlint: ignore-file: GL101",
        "# gradlint: ignore-file GL101",
        "# gradlint: ignore[GL101",
        "# gradlint: ignore(GL101)",
        "# gradlint: ignore GL101",
        "# gradlint: ignore=GL101",
        "# gradlint: ignored",
        "# gradlint ignore[GL101]",
        "# gradlint: ingore[GL101]",
        "# noqa: E501",
        "# noqa-not",
        "# nothing",
        '; y = "# gradlint: ignore[GL101]"',
        '; y = "# noqa"',
        "# write `# gradlint: ignore[GL101]` to silence it",
    ],
)
def test_not_silenced(comment: str) -> None:
    assert ("GL101", 1) in left(f"x = 1  {comment}\n", finding(1))


CALL = """\
optimizer = SGD(
    [weights],
    lr=0.1,
)
other = 1
"""


@pytest.mark.parametrize(
    ("at", "found", "silenced"),
    [
        pytest.param(1, finding(1), True, id="first line"),
        pytest.param(4, finding(1), True, id="last line of the statement"),
        pytest.param(2, finding(2), True, id="its own line inside of a statement"),
        pytest.param(1, finding(2), True, id="first line of the statement"),
        pytest.param(4, finding(2), True, id="last line of the statement, found inside"),
        pytest.param(3, finding(2), False, id="another line inside"),
        pytest.param(3, finding(1, 3), True, id="last line of what is marked"),
        pytest.param(2, finding(1, 3), False, id="middle of what is marked"),
        pytest.param(5, finding(1), False, id="the next statement"),
    ],
)
def test_where_it_counts(at: int, found: Finding, silenced: bool) -> None:
    lines = CALL.splitlines()
    lines[at - 1] += "  # gradlint: ignore[GL101]"
    assert (("GL101", found.span.line) not in left("\n".join(lines), found)) is silenced


def test_span_that_ends_before_the_first_column() -> None:
    found = replace(finding(1), span=Span("x.py", 1, 1, 2, 1))
    assert left("x = 1\ny = 2  # gradlint: ignore[GL101]\n", found, on=None) == [("GL101", 1)]


def test_end_of_a_string_of_many_lines() -> None:
    assert left('x = """\n# gradlint: ignore\n"""  # gradlint: ignore[GL101]\n', finding(1)) == []


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_line_endings(newline: str) -> None:
    text = newline.join(["a = 1", "b = 2\f", "c = 3  # gradlint: ignore[GL101]", "d = '\u2028'", ""])
    assert left(text, finding(3)) == []
    assert left(text, finding(4)) == [("GL101", 4), ("GL002", 3)]


def test_only_its_own_code_is_silenced() -> None:
    text = "x = 1  # gradlint: ignore[GL101]\n"
    assert left(text, finding(1), finding(1, code="GL201")) == [("GL201", 1)]


def test_skip_file_anywhere() -> None:
    text = "x = 1\n\n\ndef f():\n    pass  # gradlint: skip-file\n"
    assert left(text, finding(1), finding(2), finding(1, code="GL201")) == []


def test_what_is_broken_is_read_up_to_there() -> None:
    text = "# gradlint: skip-file\nprint 'x'\nx = (\n"
    assert left(text, finding(2), on=None) == []
    assert left("x = 1  # noqa\ny = (  # noqa\n", finding(1), finding(2), on=None) == []


def test_files_without_the_words_are_not_taken_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(text: str) -> None:
        raise AssertionError("read")

    monkeypatch.setattr(comments, "read", never)
    assert left("x = 1  # noqa: E501\n") == []
    assert left("x = 1  # a comment\n", finding(1)) == [("GL101", 1)]
    with pytest.raises(AssertionError, match="read"):
        left("x = 1  # noqa: E501\n", finding(1))


# What silences nothing


@pytest.mark.parametrize(
    ("comment", "message"),
    [
        ("# gradlint: ignore[GL101]", "`GL101` suppresses nothing here"),
        ("# gradlint: ignore[missing-zero-grad]", "`missing-zero-grad` suppresses nothing here"),
        ("# gradlint: ignore[GL101, GL102]", "`GL101` and `GL102` suppress nothing here"),
        ("# gradlint: ignore[GL101, GL102, GL201]", "`GL101`, `GL102` and `GL201` suppress nothing here"),
        ("# gradlint: ignore", "nothing is found here, so nothing is suppressed"),
        ("# gradlint: ignore[]", "this suppression names no rule, and suppresses nothing"),
        ("# noqa: GL101", "`GL101` suppresses nothing here"),
        ("# noqa: E501, GL101", "`GL101` suppresses nothing here"),
        ("# gradlint: ignore[GL999]", "`GL999` is no rule, and suppresses nothing"),
        ("# gradlint: ignore[missing-zero-gard]", "`missing-zero-gard` is no rule, and suppresses nothing"),
        ("# gradlint: ignore[GL1]", "`GL1` suppresses nothing here"),
        ("# gradlint: ignore[GL8]", "`GL8` is no rule, and suppresses nothing"),
        ("# gradlint: ignore-file[GL101]", "`GL101` suppresses nothing here"),
        ("# gradlint: ignore-file(GL101)", "unknown directive `ignore-file`, and suppresses nothing"),
        ("# noqa: GL999", "`GL999` is no rule, and suppresses nothing"),
        ("# gradlint: ingore[GL101]", "unknown directive `ingore`, and suppresses nothing"),
        ("# gradlint: disable=GL101", "unknown directive `disable`, and suppresses nothing"),
        ("# gradlint: noqa", "unknown directive `noqa`, and suppresses nothing"),
        ("# gradlint: skipfile", "unknown directive `skipfile`, and suppresses nothing"),
        ("# gradlint: xyz[GL101]", "unknown directive `xyz`, and suppresses nothing"),
        ("# gradlint ignore", "this has no colon, and suppresses nothing"),
        ("# gradlint-ignore[GL101]", "this has no colon, and suppresses nothing"),
        ("# gradlint: ignore GL101", "this suppression cannot be read, and suppresses nothing"),
        ("# gradlint: ignore[GL101", "this suppression cannot be read, and suppresses nothing"),
    ],
)
def test_told(comment: str, message: str) -> None:
    [found] = told(f"x = 1  {comment}\n")
    assert found.message == message
    assert found.severity is Severity.WARNING
    assert found.confidence is Confidence.HIGH
    assert found.help
    assert (found.span.line, found.span.end_line) == (1, 1)
    text = f"x = 1  {comment}"[found.span.column - 1 : found.span.end_column - 1]
    assert text in comment


@pytest.mark.parametrize(
    "comment",
    [
        "# noqa",
        "# noqa: E501",
        "# noqa: GL01",  # numpydoc's
        "# noqa: ABC101",
        "# gradlint: ignore[GL002]",
        "# gradlint: ignore[GL101, GL002]",
        "# gradlint: ignore[GL101]  # noqa",
        "# gradlint: ignore[GL101]  # noqa: GL002",
        "# gradlint: ignore[GL208]",  # for the watcher
        "# gradlint: ignore[GL901]",  # not on
        "# noqa: GL901",
        "# gradlint is a linter",
        "# gradlint: the linter of this project",
        "# gradlint: see https://example.org",
        "# we ask gradlint: ignore that",
        "# gradlint: skip-file",
    ],
)
def test_not_told(comment: str) -> None:
    assert told(f"x = 1  {comment}\n") == []


@pytest.mark.parametrize("comment", ["# gradlint: ignore[GL101]", "# gradlint: ignore", "# noqa: GL101"])
def test_used_is_not_told(comment: str) -> None:
    assert left(f"x = 1  {comment}\n", finding(1)) == []


def test_advice() -> None:
    assert told("# gradlint: ignore[missing-zero-gard]")[0].help.startswith("write `missing-zero-grad`")
    assert told("# gradlint: ignore[GL1O1]")[0].help.startswith("write `GL101`")
    assert told("# gradlint: skipfile")[0].help == "write `# gradlint: skip-file`"


def test_only_what_was_looked_for_is_unused() -> None:
    text = "x = 1  # gradlint: ignore[GL101]\ny = 1  # gradlint: ignore[GL201]\nz = 1  # gradlint: ignore\n"
    assert left(text, on=frozenset({"GL002", "GL201"})) == [("GL002", 2)]
    assert left(text, on=USUAL - {"GL002"}) == []
    assert left(text, on=USUAL) == [("GL002", 1), ("GL002", 2), ("GL002", 3)]


def test_nothing_is_known_of_a_file_that_was_not_checked() -> None:
    assert left("x = 1  # gradlint: ignore[GL101]\n", on=None) == []


def test_second_of_two_names_of_one_rule_is_unused() -> None:
    [found] = told("x = 1  # gradlint: ignore[GL101, missing-zero-grad]\n", finding(1))
    assert found.message == "`missing-zero-grad` suppresses nothing here"


# What the fix makes of it


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("x = 1  # gradlint: ignore[GL102]\n", "x = 1\n"),
        ("x = 1\t#gradlint:ignore", "x = 1"),
        ("x = 1  # gradlint: ignore[GL102] with a reason\n", "x = 1\n"),
        ("x = 1  # gradlint: ignore[GL101, GL102]\n", "x = 1  # gradlint: ignore[GL101]\n"),
        ("x = 1  # gradlint: ignore[GL102,GL101 , GL201] why\n", "x = 1  # gradlint: ignore[GL101] why\n"),
        ("x = 1  # noqa: E501, GL102\n", "x = 1  # noqa: E501\n"),
        ("x = 1  # noqa: GL102 E501,W291\n", "x = 1  # noqa: E501, W291\n"),
        ("x = 1  # noqa: GL102\n", "x = 1\n"),
        ("x = 1  # type: ignore  # gradlint: ignore[GL102]\n", "x = 1  # type: ignore\n"),
        ("x = 1  # gradlint: ignore[GL102]  # type: ignore\n", "x = 1  # type: ignore\n"),
        ("x = 1  # why # gradlint: ignore[GL102] # how\n", "x = 1  # why # how\n"),
        ("# gradlint: ignore[GL102]\nx = 1\n", "x = 1\n"),
        ("if x:\n    # gradlint: ignore[GL102]\n    y = 1\n", "if x:\n    y = 1\n"),
        ("x = 1\n# gradlint: ignore[GL102]", "x = 1\n"),
        ("x = 1\r\n# gradlint: ignore[GL102]\r\ny = 2\r\n", "x = 1\r\ny = 2\r\n"),
        ("s = 'é'  # gradlint: ignore[GL102]\n", "s = 'é'\n"),
        ("x = 1  # gradlint: ignore[]\n", "x = 1\n"),
        ("x = 1  # gradlint: ignore[GL999, GL102]\n", "x = 1  # gradlint: ignore[GL999]\n"),
    ],
)
def test_fix(before: str, after: str) -> None:
    found = [finding(1)] if "GL101" in before else []
    assert mended(before, *found) == after
    again = [found.message for found in told(after, *found) if found.fix]
    assert again == []


@pytest.mark.parametrize("comment", ["ignore[GL999]", "ingore[GL101]", "ignore GL101", "skipfile"])
def test_what_was_meant_is_not_guessed(comment: str) -> None:
    text = f"x = 1  # gradlint: {comment}\n"
    assert mended(text) == text


def test_comments_without_a_remark_beside_one_that_has() -> None:
    text = (
        "import isaacgym  # noqa\n# isort: off\n#noqa is no more than a word in this one, and gradlint too\nx = 1  #\n"
    )
    assert suppress("a.py", text.encode(), text, [], [], None) == []


def test_a_whole_file_may_have_comments_that_do_nothing() -> None:
    assert left("# gradlint: ignore-file[GL002]\nx = 1  # gradlint: ignore[GL201]\n") == []


def test_a_comment_for_the_whole_file_silences_its_rules_on_every_line() -> None:
    text = "x = 1\n# gradlint: ignore-file[GL101]\ny = 2\n"
    assert left(text, finding(1), finding(3), finding(3, code="GL201")) == [("GL201", 3)]
