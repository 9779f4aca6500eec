"""Optimizers that get nothing from any backward, and what makes that uncertain."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent, indent

import pytest

from gradcheck_lint.facts.starved import starved
from gradcheck_lint.rule import Rule
from gradcheck_lint.source.engine import analyse
from gradcheck_lint.source.file import SourceFile
from gradcheck_lint.source.timeline import Timeline

HEAD = """
import copy
import torch
from torch import nn
one, other, x = nn.Linear(2, 2), nn.Linear(2, 2), torch.randn(3, 2)
opt = torch.optim.SGD(one.parameters(), lr=0.1)
for _ in range(3):
    opt.zero_grad()
"""


class _Asks(Rule):
    code, slug = "XX001", "asks"

    def __init__(self) -> None:
        self.found: list[str] = []

    def on_timeline(self, timeline: Timeline, report: object) -> None:
        self.found += [left.model.label for left in starved(timeline)]


@pytest.mark.parametrize(
    ("body", "found"),
    [
        pytest.param("other(x).sum().backward()", ["one"], id="another network"),
        pytest.param("one(x).sum().backward()", [], id="its own"),
        pytest.param("other(one(x).detach()).sum().backward()", ["one"], id="cut off"),
        pytest.param("other(one(x)).sum().backward()", [], id="through another one"),
        pytest.param("copy.deepcopy(one)(x).sum().backward()", ["one"], id="a copy"),
        pytest.param("nn.Sequential(one, other)(x).sum().backward()", [], id="a part of another network"),
        pytest.param("unknown(x).sum().backward()", [], id="something else"),
        pytest.param("other(x).sum().backward()\none.weight.grad = x", [], id="a gradient by hand"),
        pytest.param("other(x).sum().backward()\nunknown(opt)", [], id="code that was not seen has it"),
        pytest.param(
            "total = 0\nfor y in x:\n    total = total + other(y).sum()\ntotal.backward()", ["one"], id="a sum"
        ),
        pytest.param(
            "total = 0\nfor y in x:\n    total = total + other(y).sum() + one(y).sum()\ntotal.backward()",
            [],
            id="of both",
        ),
    ],
)
def test_starved(body: str, found: list[str]) -> None:
    rule = _Asks()
    code = HEAD + indent(dedent(body), "    ") + "\n    opt.step()\n"
    analyse([SourceFile("train.py", Path("nowhere/train.py"), code.encode())], [rule])
    assert rule.found == found
