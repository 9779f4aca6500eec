"""The runner of the pages notices each way in which an example can break its promise, and leaves no trace."""

from __future__ import annotations

import gc
import random
import threading
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch

from gradcheck_lint import testing
from gradcheck_lint.finding import Confidence, Edit, Finding, Fix, Safety, Severity, Span
from gradcheck_lint.page import HEADINGS, Page
from gradcheck_lint.rule import Rule, RunReport
from gradcheck_lint.runtime.sighting import Sighting
from gradcheck_lint.runtime.sightings.order import StaleStep
from gradcheck_lint.source.file import SourceFile
from gradcheck_lint.testing import ExampleError, check_lint, check_page, check_run, check_watch, name

FRONT = """\
---
code: GL901
slug: some-mistake
severity: error
found-by: [source]
fix: {fix}
since: 0.1.0
---
A mistake.

"""


def page_with(wrong: str, right: str = "", fix: str = "safe") -> Page:
    """A page with these Markdown texts under its headings Wrong and Right."""
    bodies = {"Wrong": wrong, "Right": right}
    text = "".join(f"## {heading}\n{bodies.get(heading, 'Text.')}\n" for heading in HEADINGS)
    return Page.parse(FRONT.format(fix=fix) + text, "page.md")


def fence(info: str, code: str) -> str:
    return f"```python {info}\n{code}\n```\n"


BAD = fence("wrong", "x = 'bad'  # <- GL901")


class TestRun:
    def test_names(self) -> None:
        page = page_with(BAD + fence("wrong norun", "y = 1  # <- GL901"), "A reason: and more.\n" + fence("quiet", "1"))
        assert [name(page, example) for example in page.examples] == [
            "GL901-wrong-1",
            "GL901-wrong-2",
            "GL901-quiet: A reason",
        ]

    def test_harm_holds_for_wrong_and_not_for_right(self) -> None:
        page = page_with(BAD + fence("harm", "assert x == 'bad'"), fence("right", "x = 'good'"))
        for example in page.examples:
            check_run(page, example)

    def test_fixed_is_the_twin_before_right(self) -> None:
        page = page_with(BAD + fence("fixed", "x = 'bad'") + fence("harm", "assert x"), fence("right", "x = ''"))
        with pytest.raises(ExampleError, match="holds after GL901-fixed-1 as well"):
            check_run(page, page.examples[0])

    @pytest.mark.parametrize(
        ("wrong", "right", "message"),
        [
            (fence("harm", "assert x == 'good'"), "x = 'good'", "does not hold after its wrong example"),
            (fence("harm", "assert x"), "x = 'good'", "holds after GL901-right-1 as well, and so shows no harm"),
            (fence("harm", "assert y"), "x = y = ''", "should only assert, but after GL901-wrong-1 raised NameError"),
            (fence("harm", "assert x"), "y = ''", "should only assert, but after GL901-right-1 raised NameError"),
        ],
    )
    def test_bad_harms(self, wrong: str, right: str, message: str) -> None:
        page = page_with(BAD + wrong, fence("right", right))
        with pytest.raises(ExampleError, match=message):
            check_run(page, page.examples[0])

    def test_a_harm_needs_a_twin(self) -> None:
        page = page_with(BAD + fence("harm", "assert x"), fence("right norun", "x = ''"))
        with pytest.raises(ExampleError, match="no right twin"):
            check_run(page, page.examples[0])

    def test_raises(self) -> None:
        page = page_with(
            fence("wrong raises=ValueError", "raise ValueError  # <- GL901")
            + fence("wrong raises=ValueError", "raise TypeError('no')  # <- GL901")
            + fence("wrong raises=ValueError", "1  # <- GL901")
            + fence("wrong", "exit(3)  # <- GL901")
            + fence("wrong raises=SyntaxError", "1 +  # <- GL901")
        )
        check_run(page, page.examples[0])
        check_run(page, page.examples[4])
        with pytest.raises(ExampleError, match="should raise ValueError, but raised TypeError: no"):
            check_run(page, page.examples[1])
        with pytest.raises(ExampleError, match="should raise ValueError, but raised nothing"):
            check_run(page, page.examples[2])
        with pytest.raises(ExampleError, match="should run through, but raised SystemExit: 3"):
            check_run(page, page.examples[3])

    def test_norun_is_not_executed(self) -> None:
        page = page_with(fence("wrong norun", "import no_such_module  # <- GL901"))
        check_run(page, page.examples[0])

    @pytest.mark.parametrize("where", ["main", "other"])
    def test_endless_examples_are_ended(self, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(testing, "SECONDS", 0.2)
        code = "while True:\n    try:\n        1  # <- GL901\n    except Exception:\n        pass"
        page = page_with(fence("wrong", code))
        caught: list[str] = []

        def check() -> None:
            with pytest.raises(ExampleError, match=r"still ran after 0\.2 s") as info:
                check_run(page, page.examples[0])
            caught.append(str(info.value))

        if where == "main":
            check()
        else:
            thread = threading.Thread(target=check)
            thread.start()
            thread.join()
        assert len(caught) == 1

    def test_tracebacks_show_the_lines_of_the_page(self) -> None:
        page = page_with(fence("wrong", "x = 1\n1 / 0  # <- GL901"))
        with pytest.raises(ExampleError) as caught:
            check_run(page, page.examples[0])
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
        trace = caught.value.__cause__.__traceback__
        while trace and trace.tb_next:
            trace = trace.tb_next
        assert trace
        assert trace.tb_lineno == page.examples[0].line + 2

    def test_examples_are_seeded_main_and_alone(self, capsys: pytest.CaptureFixture[str]) -> None:
        code = """
import sys, torch
assert __name__ == "__main__"
assert torch.initial_seed() == 0 and torch.get_num_threads() == 1
print("hidden")
print("hidden", file=sys.stderr)
leftover = "x" in globals()
x = torch.rand(1)
"""
        page = page_with(BAD, fence("right", code) + fence("right", f"{code}assert not leftover"))
        for example in page.of_kind("right"):
            check_run(page, example)
        assert capsys.readouterr() == ("", "")

    def test_what_examples_set_for_the_process_is_put_back(self) -> None:
        code = """
import random, torch, warnings
torch.manual_seed(7); random.seed(7)
torch.set_default_dtype(torch.float64)
torch.set_grad_enabled(False)
torch.use_deterministic_algorithms(True, warn_only=True)
torch.autograd.set_detect_anomaly(True)
torch.set_num_threads(2)
warnings.simplefilter("error")
"""

        def state() -> list[Any]:
            return [
                torch.initial_seed(),
                torch.get_rng_state().tolist(),
                random.getstate(),
                torch.get_default_dtype(),
                torch.is_grad_enabled(),
                torch.are_deterministic_algorithms_enabled(),
                torch.is_deterministic_algorithms_warn_only_enabled(),
                torch.is_anomaly_enabled(),
                torch.get_num_threads(),
                list(warnings.filters),
            ]

        page = page_with(BAD, fence("right", code))
        before = state()
        check_run(page, page.of_kind("right")[0])
        assert state() == before


def found(line: int, confidence: Confidence = Confidence.HIGH, code: str = "GL901", fix: Fix | None = None) -> Finding:
    span = Span("example.py", line, 1, line, 2)
    return Finding(code, "some-mistake", Severity.ERROR, confidence, "something is wrong", span, fix=fix)


def lint_finds(monkeypatch: pytest.MonkeyPatch, answer: Callable[[str], list[Finding]]) -> None:
    """Let `answer` say what is found in a text: these tests are about comparing, not about linting."""
    monkeypatch.setattr(testing, "lint", lambda code, rules: answer(code))


class TestLint:
    PAGE = page_with(
        fence("wrong", "a = 1\nb = 'bad'  # <- GL901") + fence("wrong medium", "c = 1  # <- GL901"),
        "Fine.\n" + fence("quiet", "d = 1") + "Fine, too.\n" + fence("quiet medium", "e = 1"),
    )

    @pytest.mark.parametrize(
        ("index", "findings", "message"),
        [
            (0, [found(2)], None),
            (0, [found(2), found(1, Confidence.MEDIUM), found(1, code="GL902")], None),
            (0, [], r"marks lines \[2\], but was found: nothing"),
            (0, [found(1)], r"marks lines \[2\], but was found: GL901 \(high\) on line 1"),
            (0, [found(1), found(2)], "was found: .* on line 1: .*; .* on line 2"),
            (0, [found(2), found(2)], "on line 2: .* on line 2"),
            (0, [found(2, Confidence.MEDIUM)], "was found: nothing"),
            (1, [found(1, Confidence.MEDIUM)], None),
            (1, [found(1)], "should be found with medium confidence"),
            (1, [found(1, Confidence.LOW)], "was found: nothing"),
            (2, [], None),
            (2, [found(1, Confidence.MEDIUM)], r"is correct, but was found: GL901 \(medium\)"),
            (2, [found(1, Confidence.MEDIUM, code="GL902")], None),
            (3, [found(1, Confidence.MEDIUM)], None),
            (3, [], "should be found with medium confidence, and is not"),
            (3, [found(1)], r"is correct, but was found: GL901 \(high\)|should be found with medium"),
            (2, [found(1, code="GL902")], r"is correct, but was found: GL902 \(high\)"),
        ],
    )
    def test_compares_with_the_markers(
        self, monkeypatch: pytest.MonkeyPatch, index: int, findings: list[Finding], message: str | None
    ) -> None:
        lint_finds(monkeypatch, lambda code: findings)
        if message is None:
            check_lint(self.PAGE, self.PAGE.examples[index], [])
            return
        with pytest.raises(ExampleError, match=message):
            check_lint(self.PAGE, self.PAGE.examples[index], [])

    def bad_lines(self, code: str) -> list[Finding]:
        """A finding, with a fix, for each line that says bad."""
        findings = []
        for line, text in enumerate(code.splitlines(), start=1):
            column = text.find("bad") + 1
            if column:
                fix = Fix("mend it", Safety.SAFE, (Edit(Span("example.py", line, column, line, column + 3), "good"),))
                findings.append(found(line, fix=fix))
        return findings

    def test_fixed_is_what_the_fixes_make(self, monkeypatch: pytest.MonkeyPatch) -> None:
        lint_finds(monkeypatch, self.bad_lines)
        for text, ok in [("x = 'good'", True), ("x = 'better'", False)]:
            page = page_with(BAD + fence("fixed", text))
            if ok:
                check_lint(page, page.examples[0], [])
                check_lint(page, page.examples[1], [])
                continue
            with pytest.raises(ExampleError, match="is not what the fix makes of GL901-wrong-1, which is:\nx = 'good'"):
                check_lint(page, page.examples[0], [])

    def test_fixed_needs_a_fix(self, monkeypatch: pytest.MonkeyPatch) -> None:
        lint_finds(monkeypatch, lambda code: [found(1)])
        page = page_with(BAD + fence("fixed", "x = 'good'"))
        with pytest.raises(ExampleError, match="no fix was offered for GL901-wrong-1"):
            check_lint(page, page.examples[0], [])

    @pytest.mark.parametrize("promise", ["none", "unsafe"])
    def test_fixes_are_no_safer_than_the_page_says(self, monkeypatch: pytest.MonkeyPatch, promise: str) -> None:
        lint_finds(monkeypatch, self.bad_lines)
        page = page_with(BAD, fix=promise)
        with pytest.raises(ExampleError, match=f"was given a safe fix, but the page says {promise}"):
            check_lint(page, page.examples[0], [])

    def test_check_page_tells_everything(self, monkeypatch: pytest.MonkeyPatch) -> None:
        lint_finds(monkeypatch, lambda code: [])
        page = page_with(BAD, fence("right", "1 / 0"))
        with pytest.raises(AssertionError) as caught:
            check_page(page, [])
        assert len(str(caught.value).splitlines()) == 2
        with pytest.raises(AssertionError) as caught:
            check_page(page, [], run=False)
        assert len(str(caught.value).splitlines()) == 1

    def test_an_example_is_a_file_of_its_own(self) -> None:
        file = testing._file("x = 1\n")
        assert isinstance(file, SourceFile)
        assert file.data == b"x = 1\n"
        assert not file.real.parent.exists()


# Watching


NEVER_CLEARED = """
import torch
model = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(3):
    model(torch.ones(4, 2)).sum().backward()  # <- GL901
    optimizer.step()
"""


class Carried(Rule):
    code = "GL901"
    slug = "some-mistake"
    watches = (StaleStep,)

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        report("it is so", label="", why="", help="")


class Another(Carried):
    code = "GL902"
    slug = "another-mistake"


class TestWatch:
    page = page_with(fence("wrong", NEVER_CLEARED))
    run_only = Page.parse(
        FRONT.format(fix="none").replace("[source]", "[run]")
        + "".join(f"## {h}\n{fence('wrong', NEVER_CLEARED) if h == 'Wrong' else 'Text.'}\n" for h in HEADINGS),
        "page.md",
    )

    def test_one_mistake_is_told_once(self) -> None:
        check_watch(self.page, self.page.examples[0], [Carried()])
        with pytest.raises(ExampleError, match=r"is one mistake, but is told as several: GL901 .* GL902"):
            check_watch(self.page, self.page.examples[0], [Carried(), Another()])

    def test_what_a_run_should_show_has_to_be_caught(self) -> None:
        with pytest.raises(ExampleError, match="is not caught by the watcher, which found: GL902"):
            check_watch(self.run_only, self.run_only.examples[0], [Another()])


HOOKED = """
import torch
class Mine(torch.nn.Linear): pass
model = Mine(2, 1)
optimizers = {p: torch.optim.SGD([p], lr=0.1) for p in model.parameters()}
for p in model.parameters():
    p.register_post_accumulate_grad_hook(lambda p: optimizers[p].step())
model(torch.ones(4, 2)).sum().backward()
"""


@pytest.mark.parametrize("check", [check_run, lambda page, example: check_watch(page, example, [])])
def test_nothing_of_an_example_outlives_it(check: Callable[[Page, Any], None]) -> None:
    page = page_with(BAD, fence("right", HOOKED))
    check(page, page.examples[1])
    gc.collect()
    assert not [thing for thing in gc.get_objects() if type(thing).__name__ == "Mine"]


def test_what_is_there_already_is_no_part_of_an_example() -> None:
    """An example is watched as if nothing else were in the process; some checks look through all objects."""
    here = torch.nn.Linear(2, 2)

    def modules() -> list[object]:
        return [thing for thing in gc.get_objects() if thing is here]

    assert modules()
    with testing._alone():
        assert not modules()
    assert modules()
