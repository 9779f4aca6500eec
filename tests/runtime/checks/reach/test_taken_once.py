"""Temperatures that follow their parameter, and those that do not."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import watching
from torch import Tensor, nn

from gradcheck_lint.finding import Confidence

found = partial(watching.found, rules=watching.rules("GL214"), least=Confidence.MEDIUM)


class Once:
    def __init__(self) -> None:
        self.actor = nn.Linear(3, 2)
        self.log_alpha = torch.zeros(1, requires_grad=True)
        self.alpha = self.log_alpha.exp().item()
        self.optimizer = torch.optim.Adam([self.log_alpha], lr=0.01)
        self.other = torch.optim.Adam(self.actor.parameters(), lr=0.01)

    def update(self, x: Tensor) -> None:
        out = self.actor(x)
        self.other.zero_grad()
        (self.alpha * out.pow(2).mean()).backward()
        self.other.step()
        loss = (self.log_alpha * (out.detach().mean() - 1)).sum()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.after()

    def after(self) -> None:
        pass


class Anew(Once):
    def after(self) -> None:
        self.alpha = self.log_alpha.exp().item()


class Start(Once):
    """The start is there to be compared with."""

    def __init__(self) -> None:
        super().__init__()
        self.alpha = 0.2
        self.start = self.log_alpha.detach().clone()

    def after(self) -> None:
        print(float(self.log_alpha - self.start))


class Frozen(Once):
    def __init__(self) -> None:
        super().__init__()
        self.optimizer = torch.optim.Adam([{"params": [self.log_alpha], "lr": 0.0}])

    def update(self, x: Tensor) -> None:
        self.other.zero_grad()
        (self.alpha * self.actor(x).pow(2).mean()).backward()
        self.other.step()


def run(kind: type[Once]) -> None:
    agent = kind()
    for _ in range(8):
        agent.update(torch.randn(8, 3))


def test_once() -> None:
    (finding,) = found(lambda: run(Once))
    assert (finding.step, finding.confidence) == (5, Confidence.HIGH)
    assert watching.line(finding) == "self.alpha = self.log_alpha.exp().item()"


@pytest.mark.parametrize("kind", [Anew, Start, Frozen])
def test_values_that_are_right(kind: type[Once]) -> None:
    assert found(lambda: run(kind)) == []
