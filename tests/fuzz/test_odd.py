"""Whatever a text is, nothing of gradlint's own breaks on it; thousands more with `python -m tests.fuzz.odd`."""

from __future__ import annotations

import random
from textwrap import dedent

import pytest

from gradcheck_lint.source.file import SourceFile
from gradcheck_lint.source.lint import Batch, check
from tests.fuzz import odd


@pytest.mark.parametrize("seed", range(6))
def test_nothing_breaks_on_odd_text(seed: int) -> None:
    broken = {
        number: found for number, data in odd.mutants(40, 1000 + seed) if (found := odd.faults(data, bool(seed % 2)))
    }
    assert not broken


def test_many_of_the_texts_are_python() -> None:
    assert sum(odd.is_python(data) for _, data in odd.mutants(300, 7)) > 100


@pytest.mark.parametrize("change", sorted({change.__name__ for change in odd.CHANGES}))
def test_each_change_changes_something(change: str) -> None:
    rng = random.Random(1)
    changed = 0
    for text in odd.ours()[:40]:
        lines = text.split("\n")
        getattr(odd, change)(rng, lines)
        changed += "\n".join(lines) != text
    assert changed


HEAD = """\
import copy, torch
model = torch.nn.Linear(2, 2)
opt = torch.optim.SGD(model.parameters(), 0.1)
"""
STEPS = """\
for x in torch.ones(3, 2):
    model(x).sum().backward()
    opt.step()
"""


def indented(text: str, by: str = "    ") -> str:
    return "".join(by + line if line.strip() else line for line in text.splitlines(keepends=True))


ONCE = {
    "a backslash after the last statement": f"{HEAD}def f():\n{indented(STEPS)[:-1]} \\\n\ndef g(): pass\n",
    "a backslash after the last statement of a method": f"{HEAD}class A:\n    def f(self):\n"
    f"{indented(indented(STEPS))[:-1]} \\\n\n    def g(self): pass\n",
    "a form feed before a function": f"{HEAD}\fdef f():\n{indented(STEPS)}",
    "form feeds before all": indented(f"{HEAD}def f():\n{indented(STEPS)}", "\f"),
    "form feeds within the indentation": HEAD + "class A:\n  \f  def f(self):\n" + indented(STEPS, "  \f        "),
    "backslashes alone before statements": f"{HEAD}def f():\n  \\\n\\\n{indented(STEPS, '  ')}\\\ndef g(): pass\n",
    "a tab among blanks, which libcst does not read": f"{HEAD}def f():\n    if a:\n        if b:\n\t        c\n"
    f"{indented(STEPS)}    del x.grad\n",
    "a copy of something unseen": HEAD.replace("torch.optim.SGD(model.parameters(), 0.1)", "copy.deepcopy(make())")
    + STEPS,
}


@pytest.mark.parametrize("name", ONCE)
def test_what_broke_once(name: str) -> None:
    data = ONCE[name].encode()
    assert not odd.faults(data, fix=False)
    assert not odd.faults(data, fix=True)
    batch = Batch((SourceFile("odd.py", odd.ROOT / "tests" / "odd.py", data),))
    [finding] = check(batch, odd.rules(), odd.SETTINGS, jobs=1).findings
    assert finding.code == "GL101"
    lines = ONCE[name].split("\n")
    span = finding.span
    assert lines[span.line - 1][span.column - 1 : span.end_column - 1] == "model(x).sum().backward()"


def test_a_place_behind_a_form_feed_is_that_of_the_file() -> None:
    text = dedent(
        """
        import torch
        opt = torch.optim.SGD([torch.ones(1, requires_grad=True)], 0.1)
        \f  \fopt.step
        """
    )
    batch = Batch((SourceFile("odd.py", odd.ROOT / "tests" / "odd.py", text.encode()),))
    [finding] = check(batch, odd.rules(), odd.SETTINGS, jobs=1).findings
    assert (finding.code, finding.span.line, finding.span.column) == ("GL105", 4, 5)
