"""Which parameters the groups of an optimizer have, and whether they were meant to have all."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradcheck_lint.facts import shares
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.source.engine import analyse
from gradcheck_lint.source.events import BuildOptimizer
from gradcheck_lint.source.file import SourceFile
from gradcheck_lint.source.timeline import Timeline

HEAD = """import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(3, 4)
        self.LayerNorm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 1)


net = Net()
named = list(net.named_parameters())
"""


class _Asks(Rule):
    code, slug = "XX001", "asks"

    def __init__(self) -> None:
        self.shares: list[list[shares.Share]] = []

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        self.shares += [found for e in timeline.events(BuildOptimizer) if (found := shares.of_optimizer(e.subject))]


def _of(code: str) -> list[shares.Share]:
    rule = _Asks()
    analyse([SourceFile("example.py", Path("/nowhere/example.py"), (HEAD + code).encode())], [rule])
    return rule.shares[0]


def _groups(*groups: str) -> str:
    return f"opt = torch.optim.AdamW([{', '.join(groups)}], lr=0.1)\n"


def _left(found: list[shares.Share]) -> list[str]:
    return [leaf.name for leaf in shares.left_out(found, next(shares.picks(found)))]


WEIGHTS = "{'params': [p for n, p in named if n.endswith('weight')], 'weight_decay': 0.1}"
HEADS = "{'params': [p for n, p in named if n.startswith('head')], 'lr': 0.1}"
BODIES = "{'params': [p for n, p in named if n.startswith('body')], 'lr': 0.01}"
MATRICES = "{'params': [p for n, p in named if p.ndim > 1]}"


@pytest.mark.parametrize(
    ("groups", "left"),
    [
        ((WEIGHTS,), ["body.bias", "LayerNorm.bias", "head.bias"]),
        ((WEIGHTS, "{'params': [net.head.bias]}"), ["body.bias", "LayerNorm.bias"]),
        ((WEIGHTS, "{'params': net.head.parameters()}"), ["body.bias", "LayerNorm.bias"]),
        ((WEIGHTS, "{'params': [p for n, p in named if not n.endswith('weight')]}"), []),
        ((HEADS, BODIES), ["LayerNorm.weight", "LayerNorm.bias"]),
        ((HEADS, "{'params': [p for n, p in named if other(n)]}"), []),
        ((HEADS, "{'params': other(net)}"), []),
    ],
)
def test_what_is_in_no_group(groups: tuple[str, ...], left: list[str]) -> None:
    assert _left(_of(_groups(*groups))) == left


def test_groups_that_come_later_count() -> None:
    code = _groups(WEIGHTS) + "opt.add_param_group({'params': [p for n, p in named if n.endswith('bias')]})\n"
    assert _left(_of(code)) == []


@pytest.mark.parametrize(
    ("groups", "answer"),
    [
        ((MATRICES,), "yes"),
        ((WEIGHTS, "{'params': [p for n, p in named if 'norm' in n], 'weight_decay': 0.0}"), "yes"),
        ((HEADS, BODIES), "maybe"),
        ((HEADS,), "no"),
    ],
)
def test_whether_groups_are_to_have_all(groups: tuple[str, ...], answer: str) -> None:
    assert shares.sorts_all(_of(_groups(*groups))).value == answer


@pytest.mark.parametrize(
    ("test", "near"),
    [
        ("'layer_norm.weight' in n", "LayerNorm.weight"),
        ("n.startswith('Body')", "body.weight"),
        ("'layernorm' in n or 'LayerNorm' in n", None),
        ("'embedding' in n", None),
        ("'LayerNorm' in n", None),
    ],
)
def test_names_that_are_spelt_otherwise(test: str, near: str | None) -> None:
    found = _of(_groups(f"{{'params': [p for n, p in named if {test}]}}", WEIGHTS))
    known = shares.nearly(next(shares.picks(found)))
    assert (known[1].name if known is not None else None) == near
