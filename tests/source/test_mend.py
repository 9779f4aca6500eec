"""Fixing in rounds: until nothing changes, without fixes that do not take, and honest about what was written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from gradcheck_lint.config import Settings
from gradcheck_lint.finding import Confidence, Edit, Finding, Fix, Safety, Severity, Span
from gradcheck_lint.rule import Rule
from gradcheck_lint.source import engine, limits
from gradcheck_lint.source.file import SourceFile
from gradcheck_lint.source.lint import collect, rules_of
from gradcheck_lint.source.mend import ROUNDS, Mended, mend, write


def replacing(**words: tuple[str, Safety]) -> Callable[..., list[Finding]]:
    """An engine that finds GL101 at each of `words` and offers to write another word in its place."""

    def analyse(files: Sequence[SourceFile], rules: Sequence[Rule], **options: Any) -> list[Finding]:
        found = []
        for file in files:
            for number, line in enumerate(file.data.decode().splitlines(), 1):
                for word, (other, safety) in words.items():
                    if line == word:
                        span = Span(file.path, number, 1, number, len(word) + 1)
                        fix = Fix("write it right", safety, (Edit(span, other),))
                        found.append(
                            Finding("GL101", "x", Severity.ERROR, Confidence.HIGH, f"{word} is wrong", span, fix=fix)
                        )
        return found

    return analyse


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*, unsafe: bool = False) -> Mended:
    settings = Settings(root=Path.cwd())
    return mend(collect(["."], settings), rules_of(settings), settings, unsafe=unsafe)


def after(mended: Mended) -> dict[str, bytes]:
    return {path: change.data for path, change in mended.plan.changes.items()}


SAFE, UNSAFE = Safety.SAFE, Safety.UNSAFE


def test_rounds_until_nothing_changes(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "analyse", replacing(a=("b\nb", SAFE), b=("c", SAFE)))
    (here / "x.py").write_bytes(b"z\r\na\r\n")
    mended = run()
    assert after(mended) == {"x.py": b"z\r\nc\r\nc\r\n"}
    assert mended.plan.changes["x.py"].file.data == b"z\r\na\r\n"
    assert mended.result.fixed == 3
    assert mended.result.findings == ()
    assert (here / "x.py").read_bytes() == b"z\r\na\r\n"  # nothing is written yet


def test_files_that_are_kept_packed_are_mended(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "analyse", replacing(a=("b", SAFE), b=("c", SAFE)))
    monkeypatch.setattr(limits, "UNPACKED", 0)
    (here / "x.py").write_bytes(b"a\n")
    assert after(run()) == {"x.py": b"c\n"}


def test_unsafe_ones_only_if_asked_for(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "analyse", replacing(a=("c", SAFE), b=("d", UNSAFE)))
    (here / "x.py").write_bytes(b"a\nb\n")
    mended = run()
    assert after(mended) == {"x.py": b"c\nb\n"}
    assert [finding.message for finding in mended.result.findings] == ["b is wrong"]
    assert after(run(unsafe=True)) == {"x.py": b"c\nd\n"}


def test_nothing_to_fix(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "analyse", replacing())
    (here / "x.py").write_bytes(b"a\n")
    mended = run()
    assert after(mended) == {}
    assert mended.result.fixed == 0


def test_fix_that_does_not_take_is_left_out(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "analyse", replacing(a=("a\na", SAFE)))
    (here / "x.py").write_bytes(b"a\n")
    (here / "y.py").write_bytes(b"y = 1  # gradlint: ignore[GL101]\n")
    mended = run()
    assert after(mended) == {"y.py": b"y = 1\n"}
    assert [problem.message for problem in mended.result.problems] == [
        "the fix of GL101 does not remove the finding, and was left out"
    ]
    assert [finding.span.path for finding in mended.result.findings] == ["x.py"]
    assert mended.result.fixed == 1


def test_fixes_that_never_rest_end(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = {f"w{number}": (f"w{number + 1}", SAFE) for number in range(ROUNDS + 5)}
    monkeypatch.setattr(engine, "analyse", replacing(**words))
    (here / "x.py").write_bytes(b"w0\n")
    mended = run()
    assert after(mended) == {"x.py": f"w{ROUNDS}\n".encode()}
    assert [finding.message for finding in mended.result.findings] == [f"w{ROUNDS} is wrong"]


def test_writing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "analyse", replacing(a=("b", SAFE)))
    (here / "x.py").write_bytes(b"a\n")
    settings = Settings(root=here)
    result = write(run(), rules_of(settings), settings)
    assert (here / "x.py").read_bytes() == b"b\n"
    assert (result.fixed, result.findings, result.problems) == (1, (), ())


def test_file_that_has_changed_meanwhile(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "analyse", replacing(a=("b", SAFE)))
    (here / "x.py").write_bytes(b"a\n")
    (here / "y.py").write_bytes(b"a\n")
    mended = run()
    (here / "x.py").write_bytes(b"a  # edited\n")
    settings = Settings(root=here)
    result = write(mended, rules_of(settings), settings)
    assert (here / "x.py").read_bytes() == b"a  # edited\n"
    assert (here / "y.py").read_bytes() == b"b\n"
    assert result.fixed == 1
    assert [finding.span.path for finding in result.findings] == ["x.py"]
    assert [problem.path for problem in result.problems] == ["x.py"]


def test_edits_of_unread_files_are_left_out(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    span = Span("elsewhere.py", 1, 1, 1, 2)
    fix = Fix("t", SAFE, (Edit(span, "b"),))
    place = Span("x.py", 1, 1, 1, 2)
    found = [Finding("GL101", "x", Severity.ERROR, Confidence.HIGH, "wrong", place, fix=fix)]
    monkeypatch.setattr(engine, "analyse", lambda files, rules, **options: found)
    (here / "x.py").write_bytes(b"a\n")
    mended = run()
    assert after(mended) == {}
    assert len(mended.result.findings) == 1
