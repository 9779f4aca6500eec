"""A placeholder that a method fills: what the optimizer gets is not what the constructor made."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradcheck_lint import registry
from gradcheck_lint.source.engine import analyse
from gradcheck_lint.source.file import SourceFile

CLOUD = """
import torch
from torch import nn

class Cloud:
    def __init__(self):
        {made}
        self.optimizer = None
    def fill(self, n):
        {filled}
    def setup(self):
        self.optimizer = torch.optim.SGD({given}, lr=0.1)
    def loss(self):
        return sum(p.pow(2).sum() for group in self.optimizer.param_groups for p in group["params"])

{called}
cloud.setup()
for _ in range(3):
    cloud.optimizer.zero_grad()
    cloud.loss().backward()
    cloud.optimizer.step()
"""
KINDS = {
    "attribute": ("self.p = torch.empty(0)", "self.p = nn.Parameter(torch.randn(n))", "[{'params': [self.p]}]"),
    "tensor": ("self.p = torch.zeros(3)", "self.p = torch.randn(n, requires_grad=True)", "[self.p]"),
    "pair": ("self.p, self.q = torch.empty(0), 0", "self.p, self.q = nn.Parameter(torch.randn(n)), 1", "[self.p]"),
    "by name": ("self.p = torch.empty(0)", "setattr(self, 'p', nn.Parameter(torch.randn(n)))", "[self.p]"),
    "dict": ("self.p = {'a': torch.empty(0)}", "self.p['a'] = nn.Parameter(torch.randn(n))", "[self.p['a']]"),
    "values": (
        "self.p = {'a': torch.empty(0)}",
        "self.p.update(a=nn.Parameter(torch.ones(n)))",
        "list(self.p.values())",
    ),
    "list": ("self.p = []", "self.p.append(nn.Parameter(torch.randn(n)))", "self.p"),
    "groups": ("self.p = []", "self.p += [{'params': [nn.Parameter(torch.randn(n))]}]", "self.p"),
    "flag": ("self.p = torch.zeros(3)", "self.p.requires_grad_(True)", "[self.p]"),
}
CALLED = {
    "directly": "cloud = Cloud()\ncloud.fill(8)",
    "by a constructor": "class Stage:\n    def __init__(self, c):\n        c.fill(8)\ncloud = Cloud()\nStage(cloud)",
    "by a function": "def start(c):\n    c.fill(8)\ncloud = Cloud()\nstart(cloud)",
    "by code that is not seen": "from elsewhere import start\ncloud = Cloud()\nstart(cloud)",
}
_RULES = list(registry.load())


def found(kind: str, called: str, fill: bool = True) -> list[str]:
    made, filled, given = KINDS[kind]
    code = CLOUD.format(made=made, filled=filled if fill else "pass", given=given, called=called)
    findings = analyse([SourceFile("train.py", Path("nowhere/train.py"), code.encode())], _RULES)
    return [f.code for f in findings if f.code in ("GL304", "GL307")]


@pytest.mark.parametrize("called", CALLED)
@pytest.mark.parametrize("kind", KINDS)
def test_a_placeholder_that_is_filled(kind: str, called: str) -> None:
    assert found(kind, CALLED[called]) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_placeholder_that_nobody_fills(kind: str) -> None:
    assert found(kind, "cloud = Cloud()", fill=False) == ["GL307" if kind in ("list", "groups") else "GL304"]
