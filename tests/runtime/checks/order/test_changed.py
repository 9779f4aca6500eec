"""Backwards that torch refuses because something was changed in place."""

from __future__ import annotations

from functools import partial

import torch
import watching
from torch import Tensor, nn

found = partial(watching.found, raises=RuntimeError, rules=watching.rules("GL112", "GL309", "GL416"))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.act = nn.Linear(4, 4), nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        gate = torch.sigmoid(self.layer(x))
        out = gate * x
        return out + self.act(gate)  # type: ignore[no-any-return]


class Halved(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        rates = self.layer(x).exp()
        rates.mul_(0.5)
        return rates


def train(net: nn.Module) -> None:
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        net(torch.randn(8, 4)).mean().backward()
        optimizer.step()


def test_a_method() -> None:
    (finding,) = found(lambda: train(Halved()))
    assert finding.code == "GL416"
    assert watching.line(finding) == "rates.mul_(0.5)"
    assert "`exp`" in finding.label


def test_a_layer() -> None:
    (finding,) = found(lambda: train(Residual()))
    assert finding.code == "GL416"
    assert "act" in finding.help


def test_a_step_before_the_backward() -> None:
    def program() -> None:
        net, head = nn.Linear(4, 4), nn.Linear(4, 1)
        first, second = (torch.optim.SGD(part.parameters(), lr=0.1) for part in (net, head))
        for _ in range(3):
            out = head(torch.tanh(net(torch.randn(8, 4))))
            first.zero_grad()
            second.zero_grad()
            out.mean().backward(retain_graph=True)
            second.step()
            out.pow(2).mean().backward()
            first.step()

    (finding,) = found(program)
    assert finding.code == "GL416"
    assert "weight" in finding.label
    assert [related.message for related in finding.related] == ["this step moves it"]
