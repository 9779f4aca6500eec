"""From paths to a result: what is read, what is chosen, what happens when something breaks."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gradcheck_lint import registry
from gradcheck_lint.config import Selection, Settings
from gradcheck_lint.errors import ConfigError
from gradcheck_lint.finding import Confidence, Finding, Related, Severity, Span
from gradcheck_lint.page import Page
from gradcheck_lint.result import AnalysisError, Problem, Result
from gradcheck_lint.rule import Rule
from gradcheck_lint.source import engine
from gradcheck_lint.source import lint as lint_module
from gradcheck_lint.source.file import SourceFile
from gradcheck_lint.source.lint import examine, lint

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs links as POSIX has them")

Engine = Callable[..., list[Finding]]


def made(path: str, line: int, code: str, confidence: Confidence = Confidence.HIGH) -> Finding:
    slug = next(rule.slug for rule in registry.load(packs=False) if rule.code == code)
    return Finding(code, slug, Severity.ERROR, confidence, "wrong", Span(path, line, 1, line, 4))


def by_words(files: Sequence[SourceFile], rules: Sequence[Rule], **options: Any) -> list[Finding]:
    """An engine that finds a rule where its code is written after an `x`: `xGL101`, `xGL101medium`."""
    found = []
    codes = {rule.code for rule in rules}
    for file in files:
        for number, line in enumerate(file.data.decode().splitlines(), 1):
            for match in re.finditer(r"x(GL\d{3})(low|medium)?", line):
                confidence = Confidence.parse(match[2] or "high")
                if match[1] in codes:
                    found.append(made(file.path, number, match[1], confidence))
    return found


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(engine, "analyse", by_words)
    return tmp_path


def use(monkeypatch: pytest.MonkeyPatch, fake: Engine) -> None:
    monkeypatch.setattr(engine, "analyse", fake)


def run(*paths: str, **changes: Any) -> Result:
    return lint(paths or (".",), Settings(root=Path.cwd(), **changes))


def told(result: Result) -> list[tuple[str, int, str]]:
    return [(finding.span.path, finding.span.line, finding.code) for finding in result.findings]


def test_findings_are_sorted_and_counted(here: Path) -> None:
    (here / "b.py").write_text("xGL101\n", encoding="utf-8")
    (here / "a.py").write_text("\nxGL101 xGL001\nxGL101\n", encoding="utf-8")
    result = run()
    assert told(result) == [("a.py", 2, "GL001"), ("a.py", 2, "GL101"), ("a.py", 3, "GL101"), ("b.py", 1, "GL101")]
    assert result.files == 2
    assert result.errors == 1
    assert result.seconds > 0
    assert result.problems == ()
    assert result.sources == {"a.py": "\nxGL101 xGL001\nxGL101\n", "b.py": "xGL101\n"}


def test_same_finding_is_told_once(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "a.py").write_text("", encoding="utf-8")
    use(monkeypatch, lambda files, rules, **options: [made("a.py", 1, "GL101"), made("a.py", 1, "GL101")])
    assert len(run().findings) == 1


def test_only_files_that_are_pointed_into_are_kept(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        (here / f"{name}.py").write_text(name, encoding="utf-8")
    finding = replace(made("a.py", 1, "GL101"), related=(Related("here", Span("b.py", 1, 1, 1, 1)),))
    use(monkeypatch, lambda files, rules, **options: [finding])
    assert set(run().read) == {"a.py", "b.py"}


# What is chosen


def test_min_confidence(here: Path) -> None:
    (here / "a.py").write_text("xGL101low xGL101\nxGL101medium\nxGL101low\n", encoding="utf-8")
    assert [line for _, line, _ in told(run())] == [1]
    assert [line for _, line, _ in told(run(min_confidence=Confidence.MEDIUM))] == [1, 2]
    assert [line for _, line, _ in told(run(min_confidence=Confidence.LOW))] == [1, 1, 2, 3]


def test_select_and_ignore(here: Path) -> None:
    (here / "a.py").write_text("xGL101\n", encoding="utf-8")
    assert told(run(selections=(Selection(select=("GL002",)),))) == []
    assert told(run(selections=(Selection(ignore=("GL101",)),))) == []
    assert told(run(selections=(Selection(select=("missing-zero-grad",)),))) == [("a.py", 1, "GL101")]


def test_run_only_rules_are_not_given_to_the_engine(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Rule] = []
    use(monkeypatch, lambda files, rules, **options: given.extend(rules) or [])
    (here / "a.py").write_text("", encoding="utf-8")
    (here / "rules").mkdir()
    text = "from gradcheck_lint.rule import Rule\nclass R(Rule):\n    code, slug, witnesses = 'XR1', 'x', {'run'}\n"
    (here / "rules" / "r.py").write_text(text, encoding="utf-8")
    run("a.py", rule_folders=(here / "rules",))
    assert {"GL001", "GL101"} <= {rule.code for rule in given}
    assert "XR1" not in {rule.code for rule in given}


@pytest.mark.parametrize(
    ("pattern", "left"),
    [
        ("tests/**", ["a.py"]),
        ("*.py", []),
        ("t.py", ["a.py"]),
        ("/a.py", ["tests/t.py"]),
        ("!tests/**", ["tests/t.py"]),
        ("other", ["a.py", "tests/t.py"]),
    ],
)
def test_per_file_ignores(here: Path, pattern: str, left: list[str]) -> None:
    (here / "tests").mkdir()
    for name in ("a.py", "tests/t.py"):
        (here / name).write_text("xGL101\n", encoding="utf-8")
    result = run(per_file_ignores=((pattern, ("GL1",)), ("nothing", ("ALL",))))
    assert [path for path, _, _ in told(result)] == left


def test_per_file_ignores_are_for_unreadable_files_too(here: Path) -> None:
    (here / "a.py").write_bytes(b"\0")
    (here / "b.py").write_bytes(b"\0")
    result = run(per_file_ignores=(("a.py", ("unreadable-file",)),))
    assert told(result) == [("b.py", 1, "GL003")]


def test_per_file_ignores_that_are_wrong(here: Path) -> None:
    (here / "a.py").write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match='unknown rule "GL999" in per-file-ignores'):
        run(per_file_ignores=(("*.py", ("GL999",)),))
    with pytest.raises(ConfigError, match='"!" in per-file-ignores is no pattern'):
        run(per_file_ignores=(("!", ("GL101",)),))


# Comments


def test_comments_silence_and_are_judged(here: Path) -> None:
    text = "xGL101  # gradlint: ignore[GL101]\nx = 1  # gradlint: ignore[GL101]\nxGL101  # noqa\n"
    (here / "a.py").write_text(text, encoding="utf-8")
    assert told(run()) == [("a.py", 2, "GL002")]


def test_comment_for_what_is_hidden_is_used(here: Path) -> None:
    (here / "a.py").write_text("xGL101low  # gradlint: ignore[GL101]\n", encoding="utf-8")
    assert told(run()) == []


def test_comment_is_not_judged_where_the_rule_is_off(here: Path) -> None:
    (here / "a.py").write_text("x = 1  # gradlint: ignore[GL101]\n", encoding="utf-8")
    assert told(run(per_file_ignores=(("a.py", ("GL101",)),))) == []
    assert told(run(selections=(Selection(ignore=("GL101",)),))) == []
    assert told(run(selections=(Selection(ignore=("GL002",)),))) == []


@pytest.mark.parametrize("ignore", [(), ("GL001",)])
def test_comment_is_not_judged_where_the_file_was_not_checked(here: Path, ignore: tuple[str, ...]) -> None:
    (here / "a.py").write_text("xGL001\nx = 1  # gradlint: ignore[GL101]\n", encoding="utf-8")
    result = run(selections=(Selection(ignore=ignore),))
    assert told(result) == ([] if ignore else [("a.py", 1, "GL001")])


# What cannot be read


@pytest.mark.parametrize(
    ("data", "line", "message"),
    [
        (b"x = 1\n\xe9\n", 2, "this file cannot be read: byte 0xe9 is not utf-8"),
        (b"x = 1\ny = '\0'\n", 2, "this file cannot be read: it holds a NUL byte, which no Python file may"),
        ("x".encode("utf-16"), 1, "this file cannot be read: it is UTF-16, which Python does not read as source"),
        (b"# coding: nope\n", 1, "this file cannot be read: its coding comment names an unknown encoding: nope"),
        (b"#" * 5_000_001, 1, "this file cannot be read: too large to lint: 5 MB, and 5 MB is the limit"),
    ],
)
def test_what_is_no_text_is_told_and_the_others_are_linted(here: Path, data: bytes, line: int, message: str) -> None:
    (here / "a.py").write_bytes(data)
    (here / "b.py").write_text("xGL101\n", encoding="utf-8")
    result = run()
    assert told(result) == [("a.py", line, "GL003"), ("b.py", 1, "GL101")]
    [finding, _] = result.findings
    assert finding.message == message
    assert finding.confidence is Confidence.HIGH
    assert finding.help
    assert result.errors == 1
    assert result.files == 2
    assert result.sources["b.py"] == "xGL101\n"


def test_unreadable_is_told_unless_it_is_ignored(here: Path) -> None:
    (here / "a.py").write_bytes(b"\0")
    assert told(run(selections=(Selection(select=("GL101",)),))) == [("a.py", 1, "GL003")]
    assert told(run(selections=(Selection(ignore=("GL003",)),))) == []


@posix
def test_link_to_itself(here: Path) -> None:
    (here / "loop.py").symlink_to("loop.py")
    (here / "b.py").write_text("xGL101\n", encoding="utf-8")
    assert told(run()) == [("b.py", 1, "GL101"), ("loop.py", 1, "GL003")]


def test_file_that_may_not_be_opened(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "a.py").write_text("", encoding="utf-8")
    (here / "b.py").write_text("xGL101\n", encoding="utf-8")
    real = lint_module._bytes

    def guarded(path: Path) -> bytes:
        if path.name == "a.py":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(lint_module, "_bytes", guarded)
    result = run()
    assert told(result) == [("a.py", 1, "GL003"), ("b.py", 1, "GL101")]
    assert result.findings[0].message == "this file cannot be read: permission denied"


def test_empty_folder(here: Path) -> None:
    result = run()
    assert (result.findings, result.files, result.problems) == ((), 0, ())


# What breaks


def test_engine_that_broke_on_a_file(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(files: Sequence[SourceFile], rules: Sequence[Rule], **options: Any) -> list[Finding]:
        raise AnalysisError(by_words(files, rules), [Problem("a.py", "rule GL101 broke", "Traceback ...")])

    use(monkeypatch, broken)
    (here / "a.py").write_text("x = 1  # gradlint: ignore[GL101]\n", encoding="utf-8")
    (here / "b.py").write_text("xGL101\nx = 1  # gradlint: ignore[GL101]\n", encoding="utf-8")
    result = run()
    assert told(result) == [("b.py", 1, "GL101"), ("b.py", 2, "GL002")]  # what a.py would have needed is not known
    assert [problem.message for problem in result.problems] == ["rule GL101 broke"]
    assert result.errors == 1


def test_engine_that_broke_altogether(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(files: Sequence[SourceFile], rules: Sequence[Rule], **options: Any) -> list[Finding]:
        raise RuntimeError("no\nidea")

    use(monkeypatch, broken)
    (here / "a.py").write_text("x = 1  # gradlint: ignore[GL101]\n", encoding="utf-8")
    (here / "b.py").write_bytes(b"\0")
    result = run()
    assert told(result) == [("b.py", 1, "GL003")]
    [problem] = result.problems
    assert problem.message.startswith("RuntimeError: no (test_lint.py:")
    assert "Traceback" in problem.traceback


def test_interrupt_passes(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(files: Sequence[SourceFile], rules: Sequence[Rule], **options: Any) -> list[Finding]:
        raise KeyboardInterrupt

    use(monkeypatch, interrupted)
    (here / "a.py").write_text("", encoding="utf-8")
    with pytest.raises(KeyboardInterrupt):
        run()


# The parts


def test_text_of_an_editor(here: Path) -> None:
    stdin = SourceFile("train.py", here / "train.py", b"xGL101\n")
    settings = Settings(root=here, exclude=("train.py",))
    assert told(lint((), settings, stdin=stdin)) == [("train.py", 1, "GL101")]
    assert lint((), Settings(root=here, exclude=("train.py",), force_exclude=True), stdin=stdin).files == 0


def test_jobs_and_progress_reach_the_engine(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}
    use(monkeypatch, lambda files, rules, **options: seen.update(options) or [])
    (here / "a.py").write_text("", encoding="utf-8")
    steps: list[tuple[int, int]] = []
    lint(["."], Settings(root=here), jobs=3, progress=lambda done, total: steps.append((done, total)))
    assert seen["jobs"] == 3
    seen["progress"](1, 2)
    assert steps == [(1, 2)]
    run()
    assert seen["jobs"] == 1  # one file is not worth another process


@pytest.mark.parametrize("code", ["GL001", "GL002", "GL003"])
def test_pages(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # with the real engine
    rules = registry.load(packs=False)
    path = registry.page_path(registry.find(rules, code))
    assert path is not None
    for example in Page.read(path).examples:
        found = examine([SourceFile("x.py", Path("/nowhere/x.py"), example.code.encode())], rules)
        assert [(finding.code, finding.span.line) for finding in found] == [(code, line) for line in example.expected]


def test_examine_raises_what_broke(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(files: Sequence[SourceFile], rules: Sequence[Rule], **options: Any) -> list[Finding]:
        raise AnalysisError(by_words(files, rules), [Problem("a.py", "broke")])

    use(monkeypatch, broken)
    with pytest.raises(AnalysisError) as caught:
        examine([SourceFile("a.py", Path("a.py"), b"xGL101")], registry.load(packs=False))
    assert [finding.code for finding in caught.value.findings] == ["GL101"]
