"""States that a module keeps from call to call, and what makes it no mistake."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent, indent

import pytest

from gradcheck_lint.facts.remembered import remembered
from gradcheck_lint.rule import Rule
from gradcheck_lint.source.engine import analyse
from gradcheck_lint.source.file import SourceFile
from gradcheck_lint.source.timeline import Timeline

HEAD = """
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.out = nn.GRUCell(2, 4), nn.Linear(4, 1)
        self.state = None
    def begin(self):
        self.state = None
    def cut(self, state):
        return state
    def forward(self, x):
"""
LOOP = """
net = Net()
opt = torch.optim.SGD(net.parameters(), lr=0.1)
for x in torch.randn(3, 8, 2):
    {before}
    loss = net(x).sum()
    opt.zero_grad()
    loss.backward()
    opt.step()
"""


class _Asks(Rule):
    code, slug = "XX001", "asks"

    def __init__(self) -> None:
        self.found: list[str] = []

    def on_timeline(self, timeline: Timeline, report: object) -> None:
        self.found += [one.name for one in remembered(timeline)]


@pytest.mark.parametrize(
    ("forward", "before", "found"),
    [
        pytest.param("self.state = self.cell(x, self.state)\nreturn self.out(self.state)", "pass", True, id="kept"),
        pytest.param(
            "state = self.state\nif state is None:\n    state = x.new_zeros(8, 4)\nstate = self.cell(x, state)\n"
            "self.state = state\nreturn self.out(state)",
            "pass",
            True,
            id="by another name",
        ),
        pytest.param(
            "self.state = self.cell(x, self.state)\nreturn self.out(self.state)", "net.begin()", False, id="set back"
        ),
        pytest.param(
            "self.state = self.cell(x, self.state)\nreturn self.out(self.state)",
            "net.state = None",
            False,
            id="outside",
        ),
        pytest.param(
            "self.state = self.cell(x, self.state).detach()\nreturn self.out(self.state)", "pass", False, id="cut off"
        ),
        pytest.param(
            "self.state = self.cell(x, self.cut(self.state))\nreturn self.out(self.state)",
            "pass",
            False,
            id="by a method",
        ),
        pytest.param(
            "self.state = self.cell(x, None)\nreturn self.out(self.state)", "pass", False, id="never read again"
        ),
        pytest.param(
            "if len(x) > 4:\n    self.state = None\nself.state = self.cell(x, self.state)\nreturn self.out(self.state)",
            "pass",
            False,
            id="set back by a test",
        ),
        pytest.param(
            "with torch.no_grad():\n    self.state = self.cell(x, self.state)\nreturn self.out(x.repeat(1, 2))",
            "pass",
            False,
            id="nothing is recorded",
        ),
    ],
)
def test_remembered(forward: str, before: str, found: bool) -> None:
    rule = _Asks()
    code = HEAD + indent(dedent(forward), "        ") + LOOP.format(before=before)
    analyse([SourceFile("train.py", Path("nowhere/train.py"), code.encode())], [rule])
    assert rule.found == (["state"] if found else [])
