"""Weights and images that are written between two steps to keep them within bounds, which is no mistake."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional
from watching import told


def steps(optimizer: torch.optim.Optimizer, loss: Callable[[], torch.Tensor], after: Callable[[], object]) -> None:
    for _ in range(6):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        after()


def clipped() -> None:
    critic = nn.Linear(4, 1)
    optimizer = torch.optim.RMSprop(critic.parameters(), lr=0.01)

    def clip() -> None:
        with torch.no_grad():
            for p in critic.parameters():
                p.clamp_(-0.01, 0.01)

    steps(optimizer, lambda: critic(torch.randn(8, 4)).mean(), clip)


def normalised() -> None:
    model = nn.Linear(4, 3, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def project() -> None:
        with torch.no_grad():
            model.weight.copy_(functional.normalize(model.weight, dim=1))

    steps(optimizer, lambda: model(torch.randn(8, 4)).pow(2).mean(), project)


def embedding_with_a_norm() -> None:
    table = nn.Embedding(5, 4, max_norm=0.5)
    optimizer = torch.optim.SGD(table.parameters(), lr=0.1)
    steps(optimizer, lambda: (table(torch.arange(5)) - 1).pow(2).mean(), lambda: None)


def pixels() -> None:
    image = torch.rand(3, 4, requires_grad=True)
    optimizer = torch.optim.Adam([image], lr=0.1)

    def refill() -> None:
        with torch.no_grad():
            image.add_(0.0)

    steps(optimizer, lambda: (image - 2).pow(2).mean(), refill)


@pytest.mark.parametrize("program", [clipped, normalised, embedding_with_a_norm, pixels])
def test_weights_within_bounds(program: Callable[[], object]) -> None:
    assert told(program) == []
