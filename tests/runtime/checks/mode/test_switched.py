"""Optimizers that have modes of their own."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
import watching
from torch import Tensor, nn

from gradcheck_lint.finding import Confidence

found = partial(watching.found, rules=watching.rules("GL319"), least=Confidence.MEDIUM)


class Free(torch.optim.Optimizer):
    """Keeps an average beside the weights, as those without a schedule do."""

    def __init__(self, params: Iterable[Tensor], lr: float = 0.1) -> None:
        super().__init__(params, {"lr": lr, "train_mode": False})

    def _switch(self, mode: bool) -> None:
        for group in self.param_groups:
            if group["train_mode"] is not mode:
                group["train_mode"] = mode
                for p in group["params"]:
                    if (other := self.state[p].get("other")) is not None:
                        here = p.detach().clone()
                        with torch.no_grad():
                            p.copy_(other)
                        self.state[p]["other"] = here

    def train(self) -> None:
        self._switch(True)

    def eval(self) -> None:
        self._switch(False)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.sub_(p.grad, alpha=group["lr"])
                    self.state[p].setdefault("other", p.detach().clone()).lerp_(p, 0.5)


def program(*, switched: bool, free: bool = True, later: bool = False) -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.1), nn.Linear(4, 1))
    optimizer: Any = Free(net.parameters()) if free else torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(3):
        net.train()
        if free:
            optimizer.train()
        for _ in range(3):
            optimizer.zero_grad()
            net(torch.randn(8, 3)).pow(2).mean().backward()
            optimizer.step()
        if switched and not later:
            optimizer.eval()
        net.eval()
        if switched and later:
            optimizer.eval()
        with torch.no_grad():
            net(torch.randn(8, 3))


def test_judged_in_training_mode() -> None:
    (finding,) = found(lambda: program(switched=False))
    assert (finding.code, finding.step, finding.confidence) == ("GL319", 3, Confidence.HIGH)
    assert watching.line(finding) == "net.eval()"


def test_switched() -> None:
    assert found(lambda: program(switched=True)) == []
    assert found(lambda: program(switched=True, later=True)) == []
    assert found(lambda: program(switched=False, free=False)) == []
