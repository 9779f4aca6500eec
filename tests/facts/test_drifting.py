"""Frozen parts that move all the same."""

from __future__ import annotations

from pathlib import Path
from textwrap import indent

import pytest

from gradcheck_lint.facts.drifting import left_over, masked, woken
from gradcheck_lint.rule import Rule
from gradcheck_lint.source.engine import analyse
from gradcheck_lint.source.file import SourceFile
from gradcheck_lint.source.timeline import Timeline

HEAD = """
import torch
from torch import nn
import elsewhere
body = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
head = nn.Linear(4, 1)
model = nn.Sequential(body, head)
def learn():
    optimizer.zero_grad(set_to_none=False)
    model(torch.randn(2, 4)).mean().backward()
    optimizer.step()
"""
SGD = "optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)\n"
ADAMW = "optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)\n"


class _Asks(Rule):
    code = "XX001"
    slug = "asks"

    def __init__(self) -> None:
        self.woken = self.masked = self.left = 0

    def on_timeline(self, timeline: Timeline, report: object) -> None:
        self.woken += len(list(woken(timeline)))
        self.masked += len(list(masked(timeline)))
        self.left += len(list(left_over(timeline)))


def asked(code: str) -> _Asks:
    rule = _Asks()
    analyse([SourceFile("train.py", Path("train.py"), (HEAD + code).encode())], [rule])
    return rule


def looped(before: str, body: str) -> _Asks:
    return asked(before + "for epoch in range(9):\n" + indent(body, "    "))


FROZEN = SGD + "body.requires_grad_(False)\n"


@pytest.mark.parametrize(
    ("before", "body", "times"),
    [
        ("body.eval()\n", "model.train()\nlearn()", 1),
        ("for m in body.modules(): m.eval()\n", "model.train()\nlearn()", 1),
        ("body.eval()\n", "learn()", 0),
        ("", "model.train()\nlearn()", 0),
        ("body.eval()\n", "model.train()\nbody.eval()\nlearn()", 0),
        ("body.eval()\n", "model.train()\nif epoch: body.eval()\nlearn()", 0),
        ("body.eval()\n", "model.train()\nelsewhere.freeze(model)\nlearn()", 0),
        ("body.eval()\n", "body.requires_grad_(True)\nmodel.train()\nlearn()", 0),
        ("body.eval()\n", "head.train()\nlearn()", 0),
    ],
)
def test_woken(before: str, body: str, times: int) -> None:
    assert looped(FROZEN + before, body).woken == times


def test_a_part_that_learns_may_be_woken() -> None:
    assert not looped(SGD + "body.eval()\n", "model.train()\nlearn()").woken


STEP = "optimizer.zero_grad()\nmodel(torch.randn(2, 4)).mean().backward()\n"


@pytest.mark.parametrize(
    ("built", "mask", "times"),
    [
        (ADAMW, "head.weight.grad[:2] = 0", 1),
        (ADAMW, "head.weight.grad[:2, 1:] = 0.0", 1),
        (ADAMW, "head.weight.grad[head.weight == 0] = 0", 0),  # as of pruned weights
        (ADAMW, "head.weight.grad[:2] = 1", 0),
        (SGD, "head.weight.grad[:2] = 0", 0),
        (ADAMW.replace("lr=0.1", "lr=0.1, weight_decay=0.0"), "head.weight.grad[:2] = 0", 0),
        (SGD.replace("lr=0.1", "lr=0.1, weight_decay=0.1"), "head.weight.grad[:2] = 0", 1),
        (ADAMW.replace("lr=0.1", "**elsewhere.options"), "head.weight.grad[:2] = 0", 0),
    ],
)
def test_masked(built: str, mask: str, times: int) -> None:
    assert looped(built, f"{STEP}{mask}\noptimizer.step()").masked == times


def test_rows_that_are_written_back() -> None:
    body = f"{STEP}head.weight.grad[:2] = 0\noptimizer.step()\nwith torch.no_grad():\n    head.weight[:2] = 1"
    assert not looped(ADAMW, body).masked


@pytest.mark.parametrize(
    ("built", "body", "times"),
    [
        (SGD, "if epoch == 3: body.requires_grad_(False)\nlearn()", 1),
        (ADAMW, "if epoch == 3: body.requires_grad_(False)\nlearn()", 1),
        (SGD.replace(", momentum=0.9", ""), "if epoch == 3: body.requires_grad_(False)\nlearn()", 0),
        (SGD, "if epoch == 3: body.requires_grad_(False)\nlearn()\nmodel.zero_grad()", 0),
        (SGD, f"if epoch == 3:\n    body.requires_grad_(False)\n    {SGD}learn()", 0),
        (SGD + "body.requires_grad_(False)\n", "learn()", 0),
    ],
)
def test_left_over(built: str, body: str, times: int) -> None:
    assert looped(built, body).left == times
