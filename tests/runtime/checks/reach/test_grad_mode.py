"""Gradients that are off in the middle of a training, while something of it goes on to be trained."""

from __future__ import annotations

import torch
from torch import nn

from tests.runtime.watching import codes, found


def scaled(switch_off: int, *, back: bool = False, steps: int = 30) -> list[tuple[str, int | None]]:
    """A network and a factor; from one step on the network is computed without gradients."""

    def program() -> None:
        net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
        factor = nn.Parameter(torch.ones(()))
        optimizer = torch.optim.SGD([*net.parameters(), factor], lr=0.01)
        for step in range(1, steps):
            if step == switch_off:
                torch.set_grad_enabled(False)
            out = net(torch.randn(8, 4))
            with torch.enable_grad():
                optimizer.zero_grad()
                (factor * out).square().mean().backward()
            if back:
                torch.set_grad_enabled(True)
            optimizer.step()

    try:
        findings = found(program)
    finally:
        torch.set_grad_enabled(True)
    return [(finding.code, finding.step) for finding in findings]


def test_left_off() -> None:
    assert scaled(switch_off=6) == [("GL404", 6)]


def test_off_for_one_step() -> None:
    assert scaled(switch_off=6, back=True) == []


def test_steps_in_a_block_without_gradients() -> None:
    """Some write their step there; and one of several branches may be taken."""

    def program() -> None:
        experts = nn.ModuleList(nn.Linear(3, 1) for _ in range(6))
        optimizer = torch.optim.SGD(experts.parameters(), lr=0.01)
        for step in range(30):
            optimizer.zero_grad()
            experts[step % 6](torch.randn(8, 3)).square().mean().backward()
            with torch.no_grad():
                optimizer.step()

    assert codes(found(program)) == []
