"""`source/edit.py`: which fixes are applied, what becomes of the bytes, and how they reach the disk."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gradcheck_lint.finding import Confidence, Edit, Finding, Fix, Safety, Severity, Span
from gradcheck_lint.result import Problem
from gradcheck_lint.source import edit
from gradcheck_lint.source.file import SourceFile, decode

quick = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def source(data: bytes, path: str = "train.py", folder: Path | None = None) -> SourceFile:
    return SourceFile(path, (folder or Path()) / path, data)


def change(line: int, column: int, end_line: int, end_column: int, text: str, path: str = "train.py") -> Edit:
    return Edit(Span(path, line, column, end_line, end_column), text)


def insert(line: int, column: int, text: str, path: str = "train.py") -> Edit:
    return change(line, column, line, column, text, path)


def finding(*edits: Edit, safety: Safety = Safety.SAFE, code: str = "GL101", line: int = 1) -> Finding:
    return Finding(
        code=code,
        slug="missing-zero-grad",
        severity=Severity.ERROR,
        confidence=Confidence.HIGH,
        message="gradients are carried over",
        span=Span("train.py", line, 1, line, 2),
        fix=Fix("mend it", safety, edits),
    )


def fixed(data: bytes, *findings: Finding, unsafe: bool = False) -> bytes:
    """What `data` becomes; it stays itself where nothing can be applied."""
    plan = edit.plan(findings, {"train.py": source(data)}, unsafe=unsafe)
    return plan.changes["train.py"].data if plan.changes else data


def reasons(data: bytes, *findings: Finding) -> list[str]:
    plan = edit.plan(findings, {"train.py": source(data)})
    assert not plan.changes or plan.applied
    return [skip.reason for skip in plan.skipped]


# What an edit does to the bytes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(b"a = 1\nb = 2\n", b"a = 1\nx = 0\nb = 2\n", id="LF"),
        pytest.param(b"a = 1\r\nb = 2\r\n", b"a = 1\r\nx = 0\r\nb = 2\r\n", id="CRLF"),
        pytest.param(b"a = 1\rb = 2\r", b"a = 1\rx = 0\rb = 2\r", id="CR"),
        pytest.param(b"a = 1\r\nb = 2\n\n", b"a = 1\r\nx = 0\nb = 2\n\n", id="mixed, mostly LF"),
        pytest.param(b"a = 1\nb = 2", b"a = 1\nx = 0\nb = 2", id="no last newline"),
        pytest.param(b"\xef\xbb\xbfa = 1\nb = 2\n", b"\xef\xbb\xbfa = 1\nx = 0\nb = 2\n", id="byte order mark"),
        pytest.param(b"\x0ca = '\x0c'\nb = 2\n", b"\x0ca = '\x0c'\nx = 0\nb = 2\n", id="a form feed ends no line"),
        pytest.param(
            "a = '\x85\u2028\u2029'\nb = 2\n".encode(),
            "a = '\x85\u2028\u2029'\nx = 0\nb = 2\n".encode(),
            id="nor do the line separators of Unicode",
        ),
    ],
)
def test_an_inserted_line_uses_the_line_ending_of_its_file(before: bytes, after: bytes) -> None:
    assert fixed(before, finding(insert(2, 1, "x = 0\n"))) == after


@pytest.mark.parametrize("codec", ["latin-1", "cp1252", "koi8-r", "shift_jis", "euc_jp", "gbk", "iso2022_jp"])
def test_the_encoding_named_by_a_cookie_is_kept(codec: str) -> None:
    word = {"latin-1": "é", "cp1252": "é", "koi8-r": "ш"}.get(codec, "日本")
    before = f"# coding: {codec}\n# {word}\na = 1  # {word}\n".encode(codec)
    after = f"# coding: {codec}\n# {word}\na = 22  # {word}\n".encode(codec)
    assert fixed(before, finding(change(3, 5, 3, 6, "22"))) == after


def test_columns_count_characters_not_bytes() -> None:
    before = "s = '𝔘ñ日'; a = 1\n".encode()
    assert fixed(before, finding(change(1, 16, 1, 17, "22"))) == "s = '𝔘ñ日'; a = 22\n".encode()


def test_a_line_added_after_a_last_line_without_ending_leaves_the_file_without_one() -> None:
    assert fixed(b"a = 1\r\nb = 2", finding(insert(3, 1, "c = 3\n"))) == b"a = 1\r\nb = 2\r\nc = 3"


def test_a_line_added_at_the_end_of_a_file() -> None:
    assert fixed(b"a = 1\n", finding(insert(2, 1, "c = 3\n"))) == b"a = 1\nc = 3\n"


def test_a_deleted_line_goes_with_its_ending() -> None:
    assert fixed(b"a = 1\r\nb = 2\r\nc = 3\r\n", finding(change(2, 1, 3, 1, ""))) == b"a = 1\r\nc = 3\r\n"


def test_the_last_line_can_be_deleted_where_it_has_no_ending() -> None:
    assert fixed(b"a = 1\nb = 2", finding(change(2, 1, 3, 1, ""))) == b"a = 1\n"


def test_all_edits_of_a_fix_are_applied_whatever_their_order() -> None:
    both = finding(change(2, 5, 2, 6, "9"), insert(1, 1, "import x\n"), insert(1, 1, "import y\n"))
    assert fixed(b"a = 1\nb = 2\n", both) == b"import x\nimport y\na = 1\nb = 9\n"


# What is left out, and why ----------------------------------------------------------------------------------------


def test_of_two_fixes_of_one_place_the_first_is_applied_and_the_other_waits() -> None:
    first, second = finding(change(1, 5, 1, 6, "8")), finding(change(1, 1, 1, 6, "b = 9"), line=2)
    plan = edit.plan([second, first], {"train.py": source(b"a = 1\n\n")})
    assert plan.changes["train.py"].data == b"a = 8\n\n"
    assert plan.applied == (first,)
    assert plan.skipped == (edit.Skipped(second, "waits for the fix of GL101 at train.py:1"),)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(insert(1, 5, "+"), id="at the start"),
        pytest.param(insert(1, 6, "+ 1"), id="at the end"),
    ],
)
def test_an_insertion_clashes_with_what_it_touches(other: Edit) -> None:
    assert reasons(b"a = 1\n", finding(change(1, 5, 1, 6, "8")), finding(other, line=2)) != []


def test_two_insertions_at_one_place_clash() -> None:
    assert reasons(b"a = 1\n", finding(insert(1, 1, "x = 0\n")), finding(insert(1, 1, "y = 0\n"), line=2)) != []


def test_neighbours_do_not_clash() -> None:
    first, second = finding(change(1, 1, 1, 2, "b")), finding(change(1, 2, 1, 6, " = 7"), line=2)
    assert fixed(b"a = 1\n", first, second) == b"b = 7\n"


def test_an_edit_that_two_fixes_share_is_made_once() -> None:
    zero = insert(2, 1, "x = 0\n")
    plan = edit.plan([finding(zero), finding(zero, line=2)], {"train.py": source(b"a = 1\nb = 2\n")})
    assert plan.changes["train.py"].data == b"a = 1\nx = 0\nb = 2\n"
    assert len(plan.applied) == 2


def test_a_fix_that_breaks_the_syntax_is_left_out_alone() -> None:
    good, bad = finding(change(1, 5, 1, 6, "8")), finding(change(2, 5, 2, 6, "("), line=2)
    late = finding(change(3, 5, 3, 6, "9"), line=3)
    plan = edit.plan([good, bad, late], {"train.py": source(b"a = 1\nb = 2\nc = 3\n")})
    assert plan.changes["train.py"].data == b"a = 8\nb = 2\nc = 9\n"
    assert plan.applied == (good, late)
    [skip] = plan.skipped
    assert skip.finding is bad
    assert re.match(r"would leave train.py with a syntax error on line \d: ", skip.reason)


def test_a_fix_that_waited_for_a_broken_one_is_applied_after_all() -> None:
    bad, good = finding(change(1, 5, 1, 6, "(")), finding(change(1, 5, 1, 6, "9"), line=2)
    assert fixed(b"a = 1\n", bad, good) == b"a = 9\n"


def test_a_broken_edit_in_one_file_keeps_the_fix_out_of_the_other() -> None:
    both = finding(change(1, 5, 1, 6, "8"), change(1, 5, 1, 6, "(", path="model.py"))
    alone = finding(change(2, 5, 2, 6, "9", path="model.py"), line=2)
    files = {name: source(b"a = 1\nb = 2\n", name) for name in ("train.py", "model.py")}
    plan = edit.plan([both, alone], files)
    assert {path: change.data for path, change in plan.changes.items()} == {"model.py": b"a = 1\nb = 9\n"}
    assert plan.applied == (alone,)


def test_unsafe_fixes_are_applied_only_when_asked_for() -> None:
    risky = finding(change(1, 5, 1, 6, "8"), safety=Safety.UNSAFE)
    assert reasons(b"a = 1\n", risky) == ["is not always safe; --unsafe-fixes applies it"]
    assert fixed(b"a = 1\n", risky, unsafe=True) == b"a = 8\n"


@pytest.mark.parametrize(
    ("data", "edits", "reason"),
    [
        pytest.param(b"a = 1\n", [insert(1, 7, "x")], "points outside of its file, at train.py:1:7", id="column"),
        pytest.param(b"a = 1\n", [insert(3, 1, "x")], "points outside of its file, at train.py:3:1", id="line"),
        pytest.param(b"a = 1\n", [insert(0, 1, "x")], "points outside of its file, at train.py:0:1", id="line 0"),
        pytest.param(b"a = 1\r\n", [insert(1, 7, "x")], "points outside of its file, at train.py:1:7", id="in CRLF"),
        pytest.param(b"a = 1\n", [change(1, 3, 1, 2, "x")], "has an edit that ends before it starts, at train.py:1:3"),
        pytest.param(b"a = 1\n", [insert(1, 1, "x", path="b.py")], "edits b.py, which was not linted", id="unread"),
        pytest.param(b"a = 1\n", [change(1, 1, 1, 2, "a")], "changes nothing", id="no change"),
        pytest.param(b"a = 1\n", [], "changes nothing", id="no edit"),
        pytest.param(
            b"a = 1\n",
            [change(1, 1, 1, 4, "b"), change(1, 3, 1, 5, "c")],
            "has edits that overlap each other in train.py",
        ),
        pytest.param(
            b"# coding: latin-1\na = 1\n",
            [change(2, 5, 2, 6, "'日'")],
            "needs the character '\\u65e5', which iso-8859-1 cannot write",
            id="not in the codec",
        ),
        pytest.param(b"a = '\xff'\n", [insert(1, 1, "x")], None, id="no text"),
        pytest.param(
            b"a = 1\n", [insert(1, 1, "# coding: utf-7\nb = '+AGE-'\n")], "cannot be written into train.py as utf-8"
        ),
        pytest.param(b"a = 1\n", [insert(1, 1, "# coding: klingon\n")], None, id="unknown codec"),
    ],
)
def test_a_fix_that_cannot_be_applied_says_why(data: bytes, edits: list[Edit], reason: str | None) -> None:
    [said] = reasons(data, finding(*edits))
    if reason is None:
        assert "unreadable" in said or "cannot be read" in said
    else:
        assert said == reason


def test_bytes_that_do_not_survive_their_own_encoding_are_not_touched() -> None:
    data = b"# coding: iso2022_jp\n# \x1b$B\x1b(B\na = 1\n"  # an escape that says nothing: encoding would drop it
    assert decode(data).encode("iso2022_jp") != data
    [reason] = reasons(data, finding(change(3, 5, 3, 6, "9")))
    assert reason == "cannot be placed in train.py, whose iso2022_jp bytes are ambiguous"


def test_a_finding_without_a_fix_is_none_of_our_business() -> None:
    plain = Finding("GL1", "a-b", Severity.ERROR, Confidence.HIGH, "m", Span("train.py", 1, 1, 1, 2))
    assert edit.plan([plain], {"train.py": source(b"a = 1\n")}) == edit.Plan({}, (), ())


# Random texts ------------------------------------------------------------------------------------------------------

_CODECS = ["utf-8", "latin-1", "cp1252", "koi8-r", "shift_jis", "euc_jp", "gbk", "iso2022_jp", "big5"]
_LINE = st.text(st.sampled_from("ab 9\t\x0c\x85\u2028éшß日語😀"), max_size=8)


@st.composite
def _files(draw: st.DrawFn) -> tuple[bytes, str]:
    """Comments in some encoding with random line endings; the bytes and the text without its mark."""
    codec = draw(st.sampled_from(_CODECS))
    endings = draw(st.lists(st.sampled_from(["\n", "\r\n", "\r"]), min_size=1, max_size=3))
    lines = [f"# coding: {codec}", *("#" + line for line in draw(st.lists(_LINE, max_size=8)))]
    pairs = [(line, draw(st.sampled_from(endings))) for line in lines]
    text = "".join(line + ending for line, ending in pairs)
    if draw(st.booleans()):
        text = text.removesuffix(pairs[-1][1])
    text = text.encode(codec, "ignore").decode(codec)
    mark = b"\xef\xbb\xbf" if codec == "utf-8" and draw(st.booleans()) else b""
    return mark + text.encode(codec), text


def _offsets(text: str) -> list[tuple[int, int, int]]:
    """Each place of the text as (offset, line, column), found one character after the other; line 1 left out."""
    places, line, column = [], 1, 1
    for offset, character in enumerate(text):
        if not (character == "\n" and text[offset - 1 : offset] == "\r"):
            places.append((offset, line, column))
        if character == "\n" or (character == "\r" and text[offset + 1 : offset + 2] != "\n"):
            line, column = line + 1, 1
        else:
            column += 1
    return [place for place in [*places, (len(text), line, column)] if place[1] > 1]


def _reference(text: str, edits: list[tuple[int, int, str]], newline: str) -> str:
    for start, end, new in sorted(edits, reverse=True):
        text = text[:start] + re.sub("\r\n|\r|\n", newline, new) + text[end:]
    return text


def _dominant(text: str) -> str:
    bare = text.replace("\r\n", "")
    counts = {"\r\n": text.count("\r\n"), "\n": bare.count("\n"), "\r": bare.count("\r")}
    if not any(counts.values()):
        return "\n"
    most = [ending for ending, count in counts.items() if count == max(counts.values())]
    return min(
        most, key=lambda ending: re.search({"\n": "(?<!\r)\n", "\r": "\r(?!\n)"}.get(ending, ending), text).start()
    )


@given(_files(), st.data())
@quick
def test_edits_do_what_a_simple_reference_does(file: tuple[bytes, str], data: st.DataObject) -> None:
    raw, text = file
    assert decode(raw) == text
    places = _offsets(text)
    chosen = sorted(data.draw(st.lists(st.sampled_from(places), max_size=6, unique=True))) if places else []
    if len(chosen) % 2:
        chosen.pop()
    edits, spans = [], []
    for start, end in zip(chosen[::2], chosen[1::2], strict=True):
        new = data.draw(st.sampled_from(["", "#x", "#x\n", "#a\n#b\r\n#c\n", "#\n#"]))
        edits.append((start[0], end[0], new))
        spans.append(change(*start[1:], *end[1:], new))
    expected = _reference(text, edits, _dominant(text))
    plan = edit.plan([finding(*spans)], {"train.py": source(raw)})
    if not plan.changes:  # it would uncover something that is no comment, or the fix does nothing
        reason = plan.skipped[0].reason
        known = ("syntax error", "place", "delete a comment")
        assert any(word in reason for word in known) or (reason == "changes nothing" and expected == text)
        return
    new_bytes = plan.changes["train.py"].data
    assert decode(new_bytes) == expected
    codec = "utf-8" if raw.startswith(b"\xef\xbb\xbf") else re.match("# coding: (.*?)[\r\n]", text + "\n")[1]
    before, after = text[: edits[0][0]].encode(codec), text[edits[-1][1] :].encode(codec)
    assert new_bytes.removeprefix(b"\xef\xbb\xbf").startswith(before)
    assert new_bytes.endswith(after)
    assert new_bytes.startswith(b"\xef\xbb\xbf") == raw.startswith(b"\xef\xbb\xbf")


@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 4), st.sampled_from(["", "1", "22"])), max_size=8))
@quick
def test_many_fixes_give_what_those_applied_say(
    wishes: list[tuple[int, int, str]],
) -> None:
    data = b"a = 123456\n" * 2
    findings = []
    for number, (start, length, text) in enumerate(wishes):
        line, column = divmod(start, 6)
        findings.append(
            finding(change(line + 1, column + 5, line + 1, min(column + 5 + length, 11), text), line=number + 1)
        )
    plan = edit.plan(findings, {"train.py": source(data)})
    assert len(plan.applied) + len(plan.skipped) == len(findings)
    edits = {
        (11 * (e.span.line - 1) + e.span.column - 1, 11 * (e.span.end_line - 1) + e.span.end_column - 1, e.text)
        for applied in plan.applied
        for e in applied.fix.edits
    }
    result = plan.changes["train.py"].data if plan.changes else data
    assert result == _reference(data.decode(), list(edits), "\n").encode()
    if findings and not plan.applied:
        assert all("nothing" in skip.reason or "syntax" in skip.reason for skip in plan.skipped)


@pytest.mark.parametrize(
    ("before", "cut", "kept"),
    [
        (b"a = [1,  # one\n     2]\n", change(1, 7, 2, 7, "2"), False),
        (b"a = [1,  # one\n     2]\n", change(1, 7, 2, 7, "2,  # one\n"), True),
        (b"a = [1,  # noqa\n     2]\n", change(1, 7, 2, 7, "2"), True),
        (b"a = ['# no comment',\n     2]\n", change(1, 6, 2, 6, ""), True),
    ],
)
def test_no_fix_deletes_a_comment(before: bytes, cut: Edit, kept: bool) -> None:
    plan = edit.plan([finding(cut)], {"train.py": source(before)})
    assert bool(plan.changes) is kept
    assert [skip.reason for skip in plan.skipped] == ([] if kept else ["would delete a comment in train.py"])


# The diff ----------------------------------------------------------------------------------------------------------


def test_the_diff_of_a_plan() -> None:
    plan = edit.plan([finding(change(2, 5, 2, 6, "9"))], {"train.py": source(b"a = 1\nb = 2")})
    assert edit.diff(plan).splitlines() == [
        "--- a/train.py",
        "+++ b/train.py",
        "@@ -1,2 +1,2 @@",
        " a = 1",
        "-b = 2",
        "\\ No newline at end of file",
        "+b = 9",
        "\\ No newline at end of file",
    ]


def test_a_diff_that_is_looked_at_has_no_effect_of_its_own() -> None:
    data = "a = '\x1b[2J\u202e\x0c'\t+ b\r\nb = 2  # \x9b".encode()
    plan = edit.plan([finding(insert(1, 1, "x = 0\n"))], {"train.py": source(data)})
    assert "a = '␛[2J�␌'\t+ b\n" in edit.diff(plan)
    assert edit.patch(plan) == (
        b"--- a/train.py\n+++ b/train.py\n@@ -1,2 +1,3 @@\n+x = 0\r\n " + data.replace(b"\n", b"\n ")
        + b"\n\\ No newline at end of file\n"
    )  # fmt: skip


@pytest.mark.parametrize("codec", ["utf-7", "shift_jis", "latin-1"])
def test_a_diff_of_any_encoding_can_be_read(codec: str) -> None:
    data = f"# coding: {codec}\n# \xe4\na = 1\n".encode(codec, "replace")
    text = edit.diff(edit.plan([finding(change(3, 5, 3, 6, "2"))], {"train.py": source(data)}))
    assert text.splitlines()[2:] == [
        "@@ -1,3 +1,3 @@",
        f" # coding: {codec}",
        f" # {data.decode(codec).splitlines()[1][2:]}",
        "-a = 1",
        "+a = 2",
    ]


def test_a_coloured_diff_is_the_same_diff() -> None:
    plan = edit.plan([finding(change(1, 5, 1, 6, "9"))], {"train.py": source(b"a = 1\nb = 2")})
    coloured = edit.diff(plan, colour=True)
    assert "\x1b[31m-a = 1\x1b[0m\n\x1b[32m+a = 9\x1b[0m\n" in coloured
    assert re.sub("\x1b\\[\\d*m", "", coloured) == edit.diff(plan)


def test_no_change_no_diff() -> None:
    assert edit.diff(edit.Plan({}, (), ())) == ""


ODD_NAMES = [] if os.name == "nt" else ["a\n--- b.py\n+++ b.py.py", 'q"\\.py', "\x1b[2J.py", "\u202eyp.py", "\udcff.py"]


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git to apply the diff")
@pytest.mark.parametrize("name", ["train.py", "my code/train é.py", *ODD_NAMES])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("end", ["", "newline"])
def test_git_applies_the_diff(tmp_path: Path, name: str, newline: str, end: str) -> None:
    lines = [f"a{number} = {number}" for number in range(30)]
    data = (newline.join(lines) + (newline if end else "")).encode()
    target = tmp_path / name
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(data)
    fix = finding(insert(3, 1, "x = 0\n", name), change(29, 1, 30, 1, "", name), insert(30, 1, "y = 0; ", name))
    plan = edit.plan([fix], {name: source(data, name, tmp_path)})
    command = ["git", "-c", "core.autocrlf=false", "apply", "--whitespace=nowarn", "-"]
    environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(tmp_path.parent)}
    subprocess.run(command, input=edit.patch(plan), cwd=tmp_path, check=True, env=environment)
    assert target.read_bytes() == plan.changes[name].data != data


# Writing -----------------------------------------------------------------------------------------------------------


def planned(folder: Path, *names: str) -> edit.Plan:
    """A plan whose one fix edits all of `names`, which are on disk."""
    for name in names:
        (folder / name).write_bytes(b"a = 1\n")
    edits = [change(1, 5, 1, 6, "2", path=name) for name in names]
    return edit.plan([finding(*edits)], {name: source(b"a = 1\n", name, folder) for name in names})


def test_writing_changes_the_files_and_leaves_nothing_else_behind(tmp_path: Path) -> None:
    assert edit.write(planned(tmp_path, "one.py", "two.py")) == []
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"one.py": b"a = 2\n", "two.py": b"a = 2\n"}


def test_planning_and_showing_write_nothing(tmp_path: Path) -> None:
    edit.diff(planned(tmp_path, "one.py"))
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"a = 1\n"]


def test_a_file_that_changed_meanwhile_is_left_alone_with_those_edited_together_with_it(tmp_path: Path) -> None:
    plan = planned(tmp_path, "one.py", "two.py")
    (tmp_path / "two.py").write_bytes(b"a = 1 \n")
    assert edit.write(plan) == [
        Problem(
            "one.py",
            "not fixed: it is edited together with two.py, which has changed since it was linted; run gradlint again",
        ),
        Problem("two.py", "not fixed: it has changed since it was linted; run gradlint again"),
    ]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "one.py": b"a = 1\n",
        "two.py": b"a = 1 \n",
    }


def test_files_that_have_nothing_to_do_with_a_changed_one_are_written(tmp_path: Path) -> None:
    files = {name: source(b"a = 1\n", name, tmp_path) for name in ("one.py", "two.py", "three.py")}
    for file in files.values():
        file.real.write_bytes(file.data)
    fixes = [finding(change(1, 5, 1, 6, "2", path=name), line=line) for line, name in enumerate(files, start=1)]
    plan = edit.plan(fixes, files)
    (tmp_path / "two.py").unlink()
    [problem] = edit.write(plan)
    assert problem.path == "two.py"
    assert problem.message == "not fixed: it cannot be written: No such file or directory"
    assert (tmp_path / "one.py").read_bytes() == (tmp_path / "three.py").read_bytes() == b"a = 2\n"


def test_when_the_second_file_cannot_be_replaced_the_first_gets_its_bytes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(tmp_path, "one.py", "two.py")
    real_replace = os.replace

    def replace(source: str, target: str) -> None:
        if Path(target).name == "two.py":
            raise OSError(16, "Device or resource busy")
        real_replace(source, target)

    monkeypatch.setattr(os, "replace", replace)
    assert [problem.message for problem in edit.write(plan)] == [
        "not fixed: it is edited together with two.py, which cannot be written: Device or resource busy",
        "not fixed: it cannot be written: Device or resource busy",
    ]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"one.py": b"a = 1\n", "two.py": b"a = 1\n"}


def test_a_file_that_stays_what_it_was_is_not_touched(tmp_path: Path) -> None:
    file = source(b"a = 1\n", "one.py", tmp_path)
    file.real.write_bytes(file.data)
    before = file.real.stat()
    assert edit.write(edit.Plan({"one.py": edit.Change(file, file.data)}, (), ())) == []
    after = file.real.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.skipif(sys.platform == "win32", reason="modes are a matter of POSIX")
@pytest.mark.parametrize("mode", [0o755, 0o640, 0o600])
def test_the_mode_is_kept(tmp_path: Path, mode: int) -> None:
    plan = planned(tmp_path, "one.py")
    (tmp_path / "one.py").chmod(mode)
    assert edit.write(plan) == []
    assert stat.S_IMODE((tmp_path / "one.py").stat().st_mode) == mode


def test_a_read_only_file_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planned(tmp_path, "one.py")
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)  # a superuser may write anything
    assert [problem.message for problem in edit.write(plan)] == [
        "not fixed: it is read-only; make it writable, or leave it out"
    ]
    assert (tmp_path / "one.py").read_bytes() == b"a = 1\n"


@pytest.mark.skipif(sys.platform == "win32", reason="modes are a matter of POSIX")
@pytest.mark.parametrize("bits", [stat.S_ISUID, stat.S_ISGID, stat.S_ISVTX])
def test_set_id_bits_are_kept(tmp_path: Path, bits: int) -> None:
    plan = planned(tmp_path, "one.py")
    (tmp_path / "one.py").chmod(0o755 | bits)
    assert edit.write(plan) == []
    assert stat.S_IMODE((tmp_path / "one.py").stat().st_mode) == 0o755 | bits


@pytest.mark.skipif(not hasattr(os, "setxattr"), reason="a matter of Linux")
def test_extended_attributes_are_kept(tmp_path: Path) -> None:
    plan = planned(tmp_path, "one.py")
    try:
        os.setxattr(tmp_path / "one.py", "user.origin", b"here")
    except OSError:
        pytest.skip("this file system has none")
    assert edit.write(plan) == []
    assert os.getxattr(tmp_path / "one.py", "user.origin") == b"here"


def test_a_file_with_two_names_is_left_alone(tmp_path: Path) -> None:
    plan = planned(tmp_path, "one.py")
    os.link(tmp_path / "one.py", tmp_path / "second.py")
    assert [problem.message for problem in edit.write(plan)] == [
        "not fixed: it has 2 names (hard links), and would keep one of them; give it a copy"
    ]
    assert (tmp_path / "one.py").read_bytes() == (tmp_path / "second.py").read_bytes() == b"a = 1\n"
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.skipif(not hasattr(os, "chown"), reason="a matter of POSIX")
def test_a_file_that_would_change_its_owner_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planned(tmp_path, "one.py")
    if os.geteuid() != 0:
        pytest.skip("only a superuser can give a file away")
    os.chown(tmp_path / "one.py", 12345, 12345)

    def chown(*args: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chown", chown)
    assert [problem.message for problem in edit.write(plan)] == [
        "not fixed: it belongs to another user or group, and would not any more; fix it as its owner"
    ]
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"a = 1\n"]


def test_bytes_are_on_the_disk_before_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: events.append("sync") or fsync(handle))  # type: ignore[func-returns-value]
    monkeypatch.setattr(os, "replace", lambda *names: events.append("replace") or replace(*names))  # type: ignore[func-returns-value]
    assert edit.write(planned(tmp_path, "one.py")) == []
    assert events[:2] == ["sync", "replace"]


@pytest.mark.parametrize("at", range(1, 9))
def test_an_interrupt_leaves_the_old_or_the_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """Ctrl-C before or after any step: files that are edited together are all old or all new, and nothing is left."""
    calls = 0

    def interrupting(real: Any) -> Any:
        def call(*args: Any, **kw: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == at:
                raise KeyboardInterrupt
            result = real(*args, **kw)
            calls += 1
            if calls == at:
                raise KeyboardInterrupt
            return result

        return call

    plan = planned(tmp_path, "one.py", "two.py")
    for name in ("replace", "fsync"):
        monkeypatch.setattr(os, name, interrupting(getattr(os, name)))
    with pytest.raises(KeyboardInterrupt):
        edit.write(plan)
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(files) == {"one.py", "two.py"}
    assert len(set(files.values())) == 1


def test_left_overs_of_a_killed_run_are_cleaned_up(tmp_path: Path) -> None:
    plan = planned(tmp_path, "one.py")
    stay = [".gradlint-fix-abcdefgh.tmp.py", ".gradlint-fix-ABCDEFGH.tmp", ".gradlint-fix-abc.tmp", "abcdefgh.tmp"]
    for name in (*stay, ".gradlint-fix-abcd_123.tmp", ".gradlint-fix-new_one1.tmp"):
        (tmp_path / name).write_bytes(b"a = 2\n")
        if "new" not in name:
            os.utime(tmp_path / name, (0, 0))
    (tmp_path / ".gradlint-fix-afolder1.tmp").mkdir()
    os.utime(tmp_path / ".gradlint-fix-afolder1.tmp", (0, 0))
    assert edit.write(plan) == []
    left = {path.name for path in tmp_path.iterdir()} - {"one.py"}
    assert left == {*stay, ".gradlint-fix-new_one1.tmp", ".gradlint-fix-afolder1.tmp"}


def test_a_link_that_leads_away_is_not_written_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "repository").mkdir()
    monkeypatch.chdir(tmp_path / "repository")
    target = tmp_path / "one.py"
    target.write_bytes(b"a = 1\n")
    try:
        Path("link.py").symlink_to(target)
    except OSError:
        pytest.skip("this system makes no symlinks")
    files = {"link.py": source(b"a = 1\n", "link.py", tmp_path / "repository")}
    [problem] = edit.write(edit.plan([finding(change(1, 5, 1, 6, "2", path="link.py"))], files))
    assert problem.message == f"not fixed: it is a link that leads to {target}; name that file if you mean it"
    assert target.read_bytes() == b"a = 1\n"


def test_a_symlink_stays_one_and_the_file_behind_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    target = tmp_path / "real" / "one.py"
    target.write_bytes(b"a = 1\n")
    link = tmp_path / "link.py"
    try:
        link.symlink_to(target)
    except OSError:
        pytest.skip("this system makes no symlinks")
    plan = edit.plan(
        [finding(change(1, 5, 1, 6, "2", path="link.py"))], {"link.py": source(b"a = 1\n", "link.py", tmp_path)}
    )
    assert edit.write(plan) == []
    assert link.is_symlink()
    assert target.read_bytes() == b"a = 2\n"


def test_a_file_linted_under_two_names_is_written_once(tmp_path: Path) -> None:
    target = tmp_path / "one.py"
    target.write_bytes(b"a = 1\n")
    files = {name: SourceFile(name, target, b"a = 1\n") for name in ("one.py", "sub/../one.py")}
    fixes = [finding(change(1, 5, 1, 6, "2", path=name), line=line) for line, name in enumerate(files, start=1)]
    assert edit.write(edit.plan(fixes, files)) == []
    assert target.read_bytes() == b"a = 2\n"
