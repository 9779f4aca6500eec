"""States that modules keep from call to call, and code in other files that sets them back."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradcheck_lint.facts.remembered import remembered
from gradcheck_lint.rule import Rule
from gradcheck_lint.source.engine import analyse
from gradcheck_lint.source.file import SourceFile
from gradcheck_lint.source.timeline import Timeline

NET = """
import torch
from torch import nn


class Memory(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.past = nn.GRUCell(3, 4), None

    def forget(self):
        self.past = None

    def forward(self, x):
        if self.past is None:
            self.past = torch.zeros(len(x), 4)
        self.past = self.cell(x, self.past)
        return self.past
"""
TRAIN = """
import torch
from net import Memory
from data import ready

net = Memory()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for x in torch.randn(3, 2, 3):
    x = ready(net, x)
    optimizer.zero_grad()
    net(x).sum().backward()
    optimizer.step()
"""


class _Asks(Rule):
    code, slug = "XX001", "asks"

    def __init__(self) -> None:
        self.found: list[tuple[str, bool]] = []

    def on_timeline(self, timeline: Timeline, report: object) -> None:
        self.found += [(one.name, one.sure) for one in remembered(timeline)]


@pytest.mark.parametrize(
    ("data", "found"),
    [
        pytest.param("def ready(net, x):\n    return x.float()\n", [("past", True)], id="never set back"),
        pytest.param("def ready(net, x):\n    net.forget()\n    return x\n", [], id="by a method"),
        pytest.param("def ready(net, x):\n    net.past = None\n    return x\n", [], id="by hand"),
        pytest.param(
            "def clean(other):\n    other.forget()\n\n\ndef ready(net, x):\n    return x\n",
            [("past", False)],
            id="by something that is not seen to be called",
        ),
        pytest.param("from elsewhere import ready\n", [("past", False)], id="perhaps by what is not seen"),
    ],
)
def test_what_sets_a_state_back_in_another_file(tmp_path: Path, data: str, found: list[tuple[str, bool]]) -> None:
    rule = _Asks()
    files = []
    for name, code in (("net.py", NET), ("data.py", data), ("train.py", TRAIN)):
        (tmp_path / name).write_text(code)
        files.append(SourceFile(name, tmp_path / name, code.encode()))
    analyse(files, [rule])
    assert rule.found == found
