"""Schedules that are over while the training goes on, and the rates that are meant to be low."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import watching
from torch import nn
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    LambdaLR,
    LinearLR,
    LRScheduler,
    OneCycleLR,
    PolynomialLR,
    SequentialLR,
)

from gradcheck_lint.finding import Finding

found = partial(watching.found, rules=watching.rules("GL116"))
Build = Callable[[torch.optim.Optimizer], LRScheduler]


def train(build: Build, steps: int, **options: Any) -> list[Finding]:
    def program() -> None:
        model = nn.Linear(3, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        schedule = build(optimizer)
        for _ in range(steps):
            optimizer.zero_grad()
            model(torch.randn(4, 3)).square().mean().backward()
            optimizer.step()
            schedule.step()

    return found(program, **options)


def linear(over: int) -> Build:
    return lambda optimizer: LambdaLR(optimizer, lambda step: max(0.0, 1 - step / over))


def falling(over: int) -> Build:
    return lambda optimizer: LambdaLR(optimizer, lambda step: 1 - step / over)


def polynomial(over: int) -> Build:
    return lambda optimizer: PolynomialLR(optimizer, total_iters=over)


@pytest.mark.parametrize("every", [1, 7, 50])
@pytest.mark.parametrize(
    ("build", "words"),
    [
        (linear(10), "the rate of `optimizer` is 0 at step"),
        (polynomial(100), "the rate of `optimizer` is 0 at step"),
        (falling(10), "the rate of `optimizer` is -0."),
        (falling(120), "the rate of `optimizer` is -0."),
    ],
)
def test_over(build: Build, words: str, every: int) -> None:
    (finding,) = train(build, 260, every=every)
    assert finding.label.startswith(words)
    assert "schedule is over" in finding.message


def test_told_at_the_end_where_the_rest_is_short() -> None:
    (finding,) = train(linear(10), 40, every=10)
    assert "is 0 at step 40" in finding.label


@pytest.mark.parametrize(
    ("build", "steps"),
    [
        (linear(60), 60),  # is over with the run
        (linear(190), 200),  # counted a little short
        (linear(55), 60),
        (linear(900), 1000),  # by a good deal short
        (lambda o: CosineAnnealingLR(o, T_max=10), 130),  # touches 0 and climbs again
        (lambda o: CosineAnnealingLR(o, T_max=100), 130),
        (lambda o: CosineAnnealingLR(o, T_max=10, eta_min=1e-6), 130),
        (lambda o: CosineAnnealingWarmRestarts(o, T_0=10), 130),
        (lambda o: OneCycleLR(o, max_lr=0.1, total_steps=131), 130),
        (lambda o: LambdaLR(o, lambda step: min(1.0, step / 80)), 130),  # begins at 0
        (lambda o: LambdaLR(o, lambda step: 0.86**step), 130),  # small, and not nothing
        (lambda o: SequentialLR(o, [LinearLR(o, 0.01, 1.0, 10), CosineAnnealingLR(o, 119)], milestones=[10]), 130),
    ],
)
def test_silent(build: Build, steps: int) -> None:
    for every in (1, 50):
        assert train(build, steps, every=every) == []


def test_one_group_that_is_frozen_by_its_rate() -> None:
    def program() -> None:
        body, head = nn.Linear(3, 3), nn.Linear(3, 1)
        optimizer = torch.optim.SGD([{"params": body.parameters()}, {"params": head.parameters()}], lr=0.1)
        schedule = LambdaLR(optimizer, [lambda step: max(0.0, 1 - step / 10), lambda step: 1.0])
        for _ in range(130):
            optimizer.zero_grad()
            head(body(torch.randn(4, 3))).square().mean().backward()
            optimizer.step()
            schedule.step()

    assert found(program) == []


def test_rates_that_somebody_sets_by_hand() -> None:
    def program() -> None:
        model = nn.Linear(3, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for step in range(130):
            optimizer.param_groups[0]["lr"] = 0.1 if step < 30 else 0.0
            optimizer.zero_grad()
            model(torch.randn(4, 3)).square().mean().backward()
            optimizer.step()

    assert found(program) == []


def test_each_optimizer_has_rates_of_its_own() -> None:
    def program() -> None:
        first, second = nn.Linear(3, 1), nn.Linear(3, 1)
        short = torch.optim.SGD(first.parameters(), lr=0.1)
        long = torch.optim.SGD(second.parameters(), lr=0.1)
        schedules = [polynomial(10)(short), polynomial(500)(long)]
        for _ in range(130):
            for optimizer, model, schedule in zip((short, long), (first, second), schedules, strict=True):
                optimizer.zero_grad()
                model(torch.randn(4, 3)).square().mean().backward()
                optimizer.step()
                schedule.step()

    (finding,) = found(program)
    assert "`short`" in finding.label
