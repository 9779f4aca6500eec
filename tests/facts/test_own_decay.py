"""Weight decay with the wrong sign, in the body of the loop of an own optimizer."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from gradcheck_lint.facts.classes import ClassFacts
from gradcheck_lint.facts.own_decay import grown
from gradcheck_lint.facts.own_optimizers import StepFacts
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.source.engine import analyse
from gradcheck_lint.source.file import SourceFile

PROGRAM = """
import torch


class Own(torch.optim.Optimizer):
    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            lr, wd, away = group["lr"], group["weight_decay"], -group["lr"]
            for p in group["params"]:
"""


class _Asks(Rule):
    code, slug = "XX001", "asks"
    triggers = "params"

    def __init__(self) -> None:
        self.found: list[str] = []

    def on_class(self, facts: ClassFacts, report: Report) -> None:
        step = StepFacts.of(facts)
        self.found += [found.name for found in grown(step)] if step is not None else []


def ask(body: str) -> list[str]:
    asks = _Asks()
    code = PROGRAM + textwrap.indent(textwrap.dedent(body), " " * 16)
    analyse([SourceFile("example.py", Path("/nowhere/example.py"), code.encode())], [asks])
    return asks.found


@pytest.mark.parametrize(
    "body",
    [
        "p.add_(p, alpha=lr * wd)",
        "p.data.add_(p.data, alpha=group['lr'] * group['weight_decay'])",
        "p.data.add_(lr * wd, p.data)",
        "p.mul_(1 + lr * wd)",
        "p.data *= 1 + lr * wd",
        "p.data += lr * wd * p.data",
        "p.data = p.data * (1 + lr * wd)",
        "p.add_(p, alpha=-away * wd)",
        "g = p.grad\ng = g.add(p, alpha=-wd)\np.add_(g, alpha=-lr)",
        "g = p.grad.add(p, alpha=-wd)\np.sub_(lr * g)",
        "p.data = p.add(p, alpha=lr * wd)",
    ],
)
def test_weights_that_grow(body: str) -> None:
    assert len(ask(body)) == 1


@pytest.mark.parametrize(
    "body",
    [
        "p.add_(p, alpha=-lr * wd)",
        "p.add_(p, alpha=away * wd)",
        "p.mul_(1 - lr * wd)",
        "p.data -= lr * wd * p.data",
        "p.add_(p, alpha=scale * wd)",
        "p.add_(old, alpha=lr * wd)",
        "p.mul_(1 + lr)",
        "g = p.grad.add(p, alpha=wd)\np.add_(g, alpha=-lr)",
        "g = p.grad.add(p, alpha=-wd)\np.add_(g, alpha=lr)",
        "g = p.grad.add(p, alpha=-wd)\np.copy_(move(p, g))",
        "g = p.grad.add(p, alpha=-wd)\np.sub_(-lr * g)",
        "g = p.grad.add(p, alpha=-wd)\nshift = -lr * g\np.sub_(shift)",
        "g = p.grad.add(p, alpha=-wd)\np.add_(-1 * g, alpha=-lr)",
        "ahead = p.add(p, alpha=lr * wd)\np.add_(p.grad, alpha=-lr)",
        "p.mul(1 + lr * wd)",
    ],
)
def test_weights_that_shrink_or_may(body: str) -> None:
    assert ask(body) == []
