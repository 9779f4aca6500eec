"""Parameters that nobody holds wait as long as an optimizer may still come for them; see also `test_at_once`."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from tests.runtime.watching import codes, found

STEPS = 8


def train(net: nn.Module, optimizer: torch.optim.Optimizer, steps: int = STEPS) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        net(torch.randn(8, 3)).square().mean().backward()
        optimizer.step()


def added_later(net: nn.Sequential) -> None:
    optimizer = torch.optim.SGD(net[0].parameters(), lr=0.1)
    train(net, optimizer)
    optimizer.add_param_group({"params": net[2].parameters()})
    train(net, optimizer)


def another_comes(net: nn.Sequential) -> None:
    train(net, torch.optim.SGD(net[0].parameters(), lr=0.1))
    train(net, torch.optim.SGD(net[2].parameters(), lr=0.1))


def stage(net: nn.Sequential, part: nn.Module) -> None:
    optimizer = torch.optim.SGD(part.parameters(), lr=0.1)
    train(net, optimizer)


def by_stages(net: nn.Sequential) -> None:
    stage(net, net[0])
    stage(net, net[2])


def in_a_loop(net: nn.Sequential) -> None:
    for part in (net[0], net[2]):
        optimizer = torch.optim.SGD(part.parameters(), lr=0.1)
        train(net, optimizer)


def moved_by_hand(net: nn.Sequential) -> None:
    optimizer = torch.optim.SGD(net[0].parameters(), lr=0.1)
    for _ in range(3):
        train(net, optimizer, 4)
        with torch.no_grad():
            for parameter in net[2].parameters():
                parameter -= 0.1 * parameter.grad  # type: ignore[operator]


@pytest.mark.parametrize("program", [added_later, another_comes, by_stages, in_a_loop, moved_by_hand])
def test_somebody_comes_for_them(program: Callable[[nn.Sequential], None]) -> None:
    """Each stage of a training has its own parameters, and moves them at last."""
    told = found(lambda: program(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))))
    assert codes(told) == []
