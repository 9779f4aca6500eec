"""Schedules that were laid out for another training."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import watching
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, SequentialLR

from gradcheck_lint.finding import Confidence

found = partial(watching.found, rules=watching.rules("GL116", "GL312"), least=Confidence.MEDIUM)
Schedule = Callable[[torch.optim.Optimizer], Any]


def train(schedule: Schedule, epochs: int, rate: float = 0.01) -> None:
    net = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=rate)
    scheduler = schedule(optimizer)
    for _ in range(epochs):
        for _ in range(3):
            optimizer.zero_grad()
            net(torch.randn(8, 3)).pow(2).mean().backward()
            optimizer.step()
        scheduler.step()


def cosine(length: int) -> Schedule:
    return lambda o: CosineAnnealingLR(o, T_max=length)


@pytest.mark.parametrize(("epochs", "sure"), [(18, True), (15, True), (20, False), (40, False)])
def test_a_cosine_that_climbs(epochs: int, sure: bool) -> None:
    (finding,) = found(lambda: train(cosine(10), epochs))
    assert finding.code == "GL116"
    assert (finding.confidence is Confidence.HIGH) == sure
    assert watching.line(finding) == "scheduler.step()"


@pytest.mark.parametrize(
    ("schedule", "epochs"),
    [
        (cosine(20), 20),
        (cosine(20), 7),
        (cosine(20), 22),  # a warm-up, or the last epochs, were forgotten in its length
        (cosine(10), 30),  # swings, and ends low
        (lambda o: SequentialLR(o, [cosine(5)(o), cosine(15)(o)], milestones=[5]), 20),
    ],
)
def test_a_cosine_that_ends_low(schedule: Schedule, epochs: int) -> None:
    assert found(lambda: train(schedule, epochs)) == []


def test_a_rate_where_a_factor_belongs() -> None:
    (finding,) = found(lambda: train(lambda o: LambdaLR(o, lambda epoch: 0.01 * 0.9**epoch), 5))
    assert (finding.code, finding.confidence) == ("GL312", Confidence.HIGH)
    assert finding.step is not None
    assert finding.step <= 10


@pytest.mark.parametrize(
    ("function", "rate"),
    [
        (lambda epoch: 0.9**epoch, 0.01),
        (lambda epoch: min(1.0, 0.01 + 0.1 * epoch), 0.01),  # a warm-up that begins with as much
        (lambda epoch: 0.1 if epoch < 6 else 1.0, 0.1),  # one that begins with a tenth
        (lambda epoch: 0.02 if epoch < 4 else 1.0, 0.02),  # a small one that is held for some epochs
        (lambda epoch: 1.0, 1.0),
    ],
)
def test_a_factor(function: Callable[[int], float], rate: float) -> None:
    assert found(lambda: train(lambda o: LambdaLR(o, function), 8, rate)) == []
