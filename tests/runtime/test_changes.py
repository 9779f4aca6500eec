"""What the program changes in the middle of a run is seen at the next steps, while the watcher sleeps too."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from tests.runtime.watching import codes, found, record

AT = 207  # far from any step that is looked at by itself


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(3, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.body(x).tanh())
        return out


def replaced(net: Net, optimizer: torch.optim.Optimizer) -> None:
    net.head = nn.Linear(4, 3)


def replaced_and_moved(net: Net, optimizer: torch.optim.Optimizer) -> None:
    net.head = nn.Linear(4, 3)
    net.to("cpu")


def frozen(net: Net, optimizer: torch.optim.Optimizer) -> None:
    net.body.requires_grad_(False)


@pytest.mark.parametrize(
    ("change", "code"),
    [(replaced, "GL202"), (replaced_and_moved, "GL202"), (frozen, "GL508")],
)
def test_told_at_the_next_steps(change: Callable[[Net, torch.optim.Optimizer], None], code: str) -> None:
    done: list[int] = []
    told: list[int] = []

    def program() -> None:
        net = Net()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        for step in range(1, AT + 20):
            if step == AT:
                change(net, optimizer)
            optimizer.zero_grad(set_to_none=False)
            net(torch.randn(8, 3)).square().mean().backward()
            optimizer.step()
            done.append(step)

    findings = found(program, tell=lambda finding: told.append(len(done) + 1))
    assert codes(findings) == [code]
    assert told[0] <= AT + 4
    assert (findings[0].step or 0) <= AT + 4


def test_a_program_that_always_changes_is_left_asleep() -> None:
    """Who puts in another part in each round pays for it a few times."""

    def program() -> None:
        net = Net()
        optimizer = torch.optim.SGD(net.body.parameters(), lr=0.1)
        for _ in range(400):
            net.head = nn.Linear(4, 2).requires_grad_(False)
            optimizer.zero_grad()
            net(torch.randn(8, 3)).square().mean().backward()
            optimizer.step()

    watched = record(program).optimizers[0]
    assert watched.steps == 400
    assert watched.checked < 80
