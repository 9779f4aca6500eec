"""What becomes of loaded weights until the first step."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import watching
from torch import Tensor, nn

from gradcheck_lint.finding import Confidence

found = partial(watching.found, rules=watching.rules("GL213"), least=Confidence.MEDIUM)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(8, 16), nn.Linear(16, 8)

    def reset_parameters(self) -> None:
        self.body.reset_parameters()
        self.head.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).tanh())  # type: ignore[no-any-return]


def train(net: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for _ in range(3):
        optimizer.zero_grad()
        net(torch.randn(8, 8)).pow(2).mean().backward()
        optimizer.step()


def resumed(after: Callable[[Net], object], *, whole: bool = True) -> None:
    net = Net()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    train(net, optimizer)
    states: list[Any] = copy.deepcopy([net.state_dict(), optimizer.state_dict()])
    net = Net()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    net.load_state_dict(states[0])
    if whole:
        optimizer.load_state_dict(states[1])
    after(net)
    train(net, optimizer)


def test_drawn_anew() -> None:
    (finding,) = found(lambda: resumed(Net.reset_parameters))
    assert (finding.step, finding.confidence) == (1, Confidence.HIGH)


def test_drawn_anew_without_what_belongs_to_it() -> None:
    """To begin with the buffers or the masks of another network alone may be meant."""
    (finding,) = found(lambda: resumed(Net.reset_parameters, whole=False))
    assert finding.confidence is Confidence.MEDIUM


@torch.no_grad()
def shrink(net: Net) -> None:
    for p in net.parameters():
        p.mul_(0.4).add_(0.1 * torch.randn_like(p))


def back(net: Net) -> None:
    net.load_state_dict(copy.deepcopy(net.state_dict()))


@pytest.mark.parametrize(
    "after",
    [
        lambda net: None,
        lambda net: net.head.reset_parameters(),  # a fresh head
        shrink,  # "shrink and perturb" keeps what was learned
        back,
        lambda net: net.to(torch.float32),
    ],
)
def test_kept(after: Callable[[Net], object]) -> None:
    assert found(lambda: resumed(after)) == []
