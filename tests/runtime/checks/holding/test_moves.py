"""What was exchanged before a model is moved is no work of the move."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from tests.runtime.watching import codes, found, line


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(3, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.body(x).tanh())
        return out


@pytest.mark.parametrize("move", [lambda net: net.to("cpu"), lambda net: net.float(), lambda net: net.double()])
def test_a_head_replaced_and_then_moved(move: Callable[[nn.Module], nn.Module]) -> None:
    def program() -> None:
        net = Net()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        net.head = nn.Linear(4, 3)
        move(net)
        for _ in range(4):
            optimizer.zero_grad()
            net(torch.randn(8, 3, dtype=net.body.weight.dtype)).square().mean().backward()
            optimizer.step()

    findings = found(program)
    assert codes(findings) == ["GL202"]
    assert line(findings[0]) == "net.head = nn.Linear(4, 3)"
