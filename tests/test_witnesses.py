"""One mistake has one code and one place, whoever sees it: the wrong examples of all pages are linted and watched.

Else a comment that silences the one witness would leave the other, and both together would tell two mistakes.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from click.testing import CliRunner

from gradcheck_lint import registry
from gradcheck_lint.cli import main
from gradcheck_lint.finding import Confidence, Finding
from gradcheck_lint.page import Example, Page
from gradcheck_lint.rule import Rule
from gradcheck_lint.testing import lint, name, watched

PAGES = [Page.read(file) for file in sorted(registry.home().glob("*.md"))]
WRONG = [
    pytest.param(page, example, id=name(page, example))
    for page in PAGES
    for example in page.examples
    if example.kind == "wrong" and not example.norun
]
ELSEWHERE = {
    "GL103-wrong-5": "gradients that are cleared by hand are missed at the step only",
    "GL109-wrong-6": "which of two updates is one too many nobody knows",
    "GL111-wrong-4": "a window that is left over is made by the backward, and closed by the condition",
    "GL117-wrong-4": "the condition is no call, and what it guards is one",
    "GL117-wrong-5": "the condition is no call, and what it guards is one",
    "GL202-wrong-5": "the variable is one of a function that has called the one in which the training is",
    "GL202-wrong-18": "that a copy is trained is seen where the other one steps",
    "GL207-wrong-7": "that a copy is held is seen where that one steps",
    "GL205-wrong-1": "a write to `.data` is not heard",
    "GL205-wrong-3": "a write to `.data` is not heard",
    "GL205-wrong-5": "a write to `.data` is not heard",
    "GL205-wrong-6": "a write to `.data` is not heard",
    "GL211-wrong-4": "a state that is an alias is used where it is loaded",
    "GL211-wrong-5": "a state that is an alias is used where it is loaded",
    "GL211-wrong-13": "a run sees the two names of a network, and not who has handed it over for both",
    "GL303-wrong-6": "the tensor is an argument of the function that builds the optimizer",
    "GL311-wrong-6": "`setattr` spells the attribute in a string",
    "GL312-wrong-15": "a run sees that the rate is 0, and not who has divided",
    "GL312-wrong-17": "a run sees that the rate is 0, and not who has divided",
    "GL314-wrong-7": "a write to `defaults` is an item, of whatever dictionary",
    "GL314-wrong-8": "a write to `defaults` is an item, of whatever dictionary",
    "GL315-wrong-8": "the function that made the parameter has returned when backward reaches it",
    "GL407-wrong-3": "a run sees what keeps a graph, and not who has handed it over",
    **{f"GL404-wrong-{n}": "a switch of grad mode is not heard" for n in (1, 2, 5)},
    **{f"GL119-wrong-{n}": "what skips a step is no call" for n in range(1, 5)},
    **{f"GL203-wrong-{n}": "a write to a group is an item, of whatever list" for n in range(1, 4)},
    **{f"GL318-wrong-{n}": "classes are looked for in files of Python, and the page is none" for n in range(1, 5)},
}
"""Where the watcher names another line than the linter, and why it cannot name that one."""
CONSEQUENCES = {"GL415": frozenset({"GL801"}), "GL705": frozenset({"GL803"})}
"""What the watcher tells of a mistake whose cause it does not know yet: of a mask that is late, the NaN."""

ANOTHER = {
    **{
        f"GL117-wrong-{n}": "a run sees a step outside of the loop, and not the window that it is for" for n in (14, 15)
    },
    "GL202-wrong-17": "reading is certain of what it leads to only: the optimizer gets nothing",
    "GL402-wrong-10": "a run sees who gets nothing, and not that a term was meant for them",
    **{f"GL408-wrong-{n}": "a run sees a step without gradients, and not what cut them off" for n in (7, 8, 9, 10)},
}
"""Where the two tell the same mistake by different codes for now, and why."""


@cache
def _rules() -> tuple[Rule, ...]:
    return tuple(rule for rule in registry.load(packs=False) if getattr(rule, "default", True))


def _sure(findings: list[Finding], above: int = 0) -> set[tuple[str, int]]:
    return {(f.code, f.span.line - above) for f in findings if f.confidence is Confidence.HIGH}


@pytest.mark.parametrize(("page", "example"), WRONG)
def test_both_witnesses_say_the_same(page: Page, example: Example) -> None:
    read = _sure(lint(example.code, _rules()))
    told = _sure(watched(page, example, _rules()).findings, above=example.line)
    seen = {(code, line) for code, line in told if code not in CONSEQUENCES.get(page.code, ())}
    if not read or not seen:
        return  # what one of them cannot know is a matter of the page
    assert ({code for code, _ in seen} <= {code for code, _ in read}) == (name(page, example) not in ANOTHER)
    if name(page, example) in ANOTHER:
        return
    assert (seen <= read) == (name(page, example) not in ELSEWHERE)


def test_each_exception_is_an_example() -> None:
    assert {parameter.id for parameter in WRONG} >= ELSEWHERE.keys() | ANOTHER.keys()


NO_MODULE = """\
import torch
from torch import nn


class Block:
    def __init__(self, width):
        self.fc = nn.Linear(width, width)

    def forward(self, x):
        return x + torch.relu(self.fc(x))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.block = Block(4)
        self.out = nn.Linear(4, 1)

    def forward(self, x):
        return self.out(self.block.forward(x))


model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(3):
    optimizer.zero_grad()
    (model(torch.randn(16, 4)) - 1).pow(2).mean().backward()
    optimizer.step()
"""


@pytest.mark.filterwarnings("ignore:GL318")
@pytest.mark.parametrize("comment", ["", "  # gradlint: ignore[GL318]"], ids=["none", "ignored"])
def test_a_comment_silences_both(comment: str, tmp_path: Path) -> None:
    """In a file, where the watcher can read it."""
    file = tmp_path / f"train{len(comment)}.py"
    file.write_text(NO_MODULE.replace("class Block:", f"class Block:{comment}"), encoding="utf-8")
    for command in (["--isolated", "--no-cache", str(file)], ["run", "--isolated", str(file)]):
        result = CliRunner().invoke(main, command)
        assert (f"{file.name}:5" in result.output) == (not comment), result.output
        assert ("GL318" in result.output) == (not comment), result.output
