"""Which networks a program moves by hand: nobody has to hand them to an optimizer."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent, indent

import pytest

from gradcheck_lint import registry
from gradcheck_lint.finding import Confidence
from gradcheck_lint.source.engine import analyse
from gradcheck_lint.source.file import SourceFile

HEAD = """
import copy
import torch
from torch import nn
from elsewhere import unseen

def mix(target, source):
    for a, b in zip(target.parameters(), source.parameters()):
        a.data.lerp_(b.data, 0.1)

def size(module):
    return sum(p.numel() for p in module.parameters())

class Learner:
    def __init__(self):
        self.fast = nn.Linear(4, 2)
        self.slow = nn.Linear(4, 2)
        self.optimizer = torch.optim.SGD(self.fast.parameters(), lr=0.1)

    def learn(self, x):
        self.optimizer.zero_grad()
        (self.fast(x) - self.slow(x)).mean().backward()
        self.optimizer.step()

    def other(self, x):
"""


def confidence(body: str) -> Confidence | None:
    """How certain GL207 is of the network that no optimizer holds."""
    code = HEAD + indent(dedent(body).strip("\n"), "        ")
    rules = [rule for rule in registry.load() if rule.code == "GL207"]
    found = analyse([SourceFile("train.py", Path("nowhere/train.py"), code.encode())], rules)
    return found[0].confidence if found else None


@pytest.mark.parametrize(
    "body",
    [
        "for a, b in zip(self.slow.parameters(), self.fast.parameters()):\n    a.data.copy_(b)",
        "for i, a in enumerate(self.slow.parameters()):\n    a.data = x[i]",
        "mix(self.slow, self.fast)",
        "mix(target=self.slow, source=self.fast)",
        "slow, x = self.slow, self.fast\nfor a, b in zip(slow.parameters(), x.parameters()):\n    a.data.copy_(b)",
        "state = self.slow.state_dict()\nfor k, v in self.fast.state_dict().items():\n    state[k].copy_(v)",
        "self.slow.load_state_dict(self.fast.state_dict())",
        "self.slow.weight.data.copy_(self.fast.weight)",
        "self.slow = copy.deepcopy(self.fast)",
        "torch._foreach_copy_(list(self.slow.parameters()), list(self.fast.parameters()))",
        "vector = nn.utils.parameters_to_vector(self.fast.parameters())\n"
        "nn.utils.vector_to_parameters(vector, self.slow.parameters())",
    ],
)
def test_a_network_that_is_written_by_hand(body: str) -> None:
    assert confidence(body) is None


@pytest.mark.parametrize(
    "body",
    [
        "pass",
        "return self.slow(x)",
        "return size(self.slow)",
        "print(self.slow)",
        "self.slow.train()",
        "torch.save(self.slow.state_dict(), 'slow.pt')",
        "self.fast.load_state_dict(self.slow.state_dict())",
        "for p in self.slow.parameters():\n    print(p.shape)",
        "mix(self.fast, nn.Linear(4, 2))",
    ],
)
def test_a_network_that_is_only_used_is_forgotten(body: str) -> None:
    assert confidence(body) is Confidence.HIGH


def test_who_writes_may_be_out_of_sight() -> None:
    assert confidence("unseen(self.slow)") is Confidence.MEDIUM
