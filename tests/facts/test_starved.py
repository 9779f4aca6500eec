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
        pytest.param("other.weight = one.weight\nother(x).sum().backward()", [], id="tied by an attribute"),
        pytest.param("other._parameters.update(one._parameters)\nother(x).sum().backward()", [], id="tied by a dict"),
        pytest.param(
            "deep = nn.Sequential(other)\ndeep[0] = one\ndeep(x).sum().backward()", [], id="put into another network"
        ),
        pytest.param(
            "copy.deepcopy(one, {id(p): p for p in one.parameters()})(x).sum().backward()", [], id="a copy with a memo"
        ),
        pytest.param(
            "p = dict(one.named_parameters())\nother(nn.functional.linear(x, p['weight'])).sum().backward()",
            [],
            id="computed with by hand",
        ),
        pytest.param(
            "nn.utils.clip_grad_norm_(one.parameters(), 1.0)\nother(x).sum().backward()", ["one"], id="clipped alone"
        ),
    ],
)
def test_starved(body: str, found: list[str]) -> None:
    rule = _Asks()
    code = HEAD + indent(dedent(body), "    ") + "\n    opt.step()\n"
    analyse([SourceFile("train.py", Path("nowhere/train.py"), code.encode())], [rule])
    assert rule.found == found
