"""Whether an object is a tensor for certain."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradcheck_lint.facts.tensors import is_tensor
from gradcheck_lint.laws.answer import MAYBE, NO, YES, Answer
from gradcheck_lint.rule import Rule
from gradcheck_lint.source.engine import analyse
from gradcheck_lint.source.events import Evaluate
from gradcheck_lint.source.file import SourceFile
from gradcheck_lint.source.timeline import Timeline


class _Asks(Rule):
    code = "XX001"
    slug = "asks"

    def __init__(self) -> None:
        self.answers: list[Answer] = []

    def on_timeline(self, timeline: Timeline, report: object) -> None:
        self.answers += [is_tensor(event.value) for event in timeline.events(Evaluate)]


@pytest.mark.parametrize(
    ("made", "answer"),
    [
        ("x = torch.zeros(3)", YES),
        ("x = torch.cat([a, b])", YES),
        ("x = torch.nn.functional.relu(a)", YES),
        ("x = torch.cat([a, b]).view(-1)", YES),
        ("x = torch.nn.Parameter(torch.zeros(3))", YES),
        ("for x in torch.nn.Linear(2, 1).parameters(): pass", YES),
        ("for x in itertools.chain(torch.nn.Linear(2, 1).parameters(), [torch.zeros(3)]): pass", YES),
        ("for x in itertools.chain(a, [torch.zeros(3)]): pass", NO),
        ("w = torch.zeros(3)\nx = w.grad", YES),
        ("x = thing.grad", MAYBE),
        ("x = torch.nn.Linear(2, 1)(a)", MAYBE),
        ("x = torch.load('state.pt')", NO),
        ("x = torch.device('cpu')", NO),
        ("x = torch.nn.Linear(2, 1)", NO),
        ("x = batch['images']", NO),
        ("x = torch.zeros(3) if flag else other", NO),
        ("x = torch.zeros(3) if flag else None", YES),
    ],
)
def test_is_tensor(made: str, answer: Answer) -> None:
    rule = _Asks()
    code = "import itertools\nimport torch\ndef train(a, b, thing, batch, flag, other, optimizer):\n"
    code += "    optimizer.zero_grad()\n    "
    code += made.replace("\n", "\n    ") + "\n    x\n"
    analyse([SourceFile("train.py", Path("nowhere/train.py"), code.encode())], [rule])
    assert rule.answers == [answer]
