"""Norm layers that are frozen by their weights alone; no function of this module writes networks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
import watching
from torch import nn

from gradcheck_lint.finding import Confidence

found = partial(watching.found, rules=watching.rules("GL508"), least=Confidence.MEDIUM)


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 1))


class Pair(nn.Module):
    """A network and another of the same form, which is frozen; together they are one model."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key = net(), net()
        self.key.requires_grad_(False)


def stepped(optimizer: torch.optim.Optimizer, loss: Callable[[], torch.Tensor], steps: int = 6) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()


def frozen_body() -> None:
    model = net()
    model[:2].requires_grad_(False)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.01)
    stepped(optimizer, lambda: model(torch.randn(8, 4)).pow(2).mean())


def test_statistics_of_a_frozen_part() -> None:
    assert [(f.code, f.confidence) for f in found(frozen_body)] == [("GL508", Confidence.MEDIUM)]


def a_momentum_encoder() -> None:
    """Who moves it is not in reach of this code."""
    model = Pair()
    optimizer = torch.optim.SGD(model.query.parameters(), lr=0.01)

    def loss() -> torch.Tensor:
        x = torch.randn(8, 4)
        return (model.query(x) - model.key(x + 0.1)).pow(2).mean()

    stepped(optimizer, loss)


class Adversaries(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.generator, self.critic = nn.Linear(4, 4), net()


def a_critic_frozen_for_a_moment() -> None:
    model = Adversaries()
    makes = torch.optim.SGD(model.generator.parameters(), lr=0.01)
    judges = torch.optim.SGD(model.critic.parameters(), lr=0.01)
    for _ in range(6):
        model.critic.requires_grad_(True)
        fake = model.generator(torch.randn(8, 4))
        stepped(judges, lambda fake=fake: model.critic(fake.detach()).pow(2).mean(), 1)  # type: ignore[misc]
        model.critic.requires_grad_(False)
        stepped(makes, lambda fake=fake: -model.critic(fake).mean(), 1)  # type: ignore[misc]


@pytest.mark.parametrize("program", [a_momentum_encoder, a_critic_frozen_for_a_moment])
def test_statistics_that_may_move(program: Callable[[], object]) -> None:
    assert found(program) == []
