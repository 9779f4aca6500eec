"""One module under two names: by a slip, and because it is meant."""

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

found = partial(watching.found, rules=watching.rules("GL211"), least=Confidence.MEDIUM)


class Floors(nn.Module):
    def __init__(self, number: int) -> None:
        super().__init__()
        self.floors = nn.ModuleList([nn.Linear(3, 3)] * number)

    def forward(self, x: Tensor) -> Tensor:
        for floor in self.floors:
            x = floor(x).tanh()
        return x


class Universal(nn.Module):
    """A transformer of that name applies one block several times."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(3, 3)] * number)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x).tanh()
        return x


class Apart(nn.Module):
    def __init__(self, number: int) -> None:
        super().__init__()
        self.floors = nn.ModuleList([nn.Linear(3, 3) for _ in range(number)])
        self.ends = nn.Sequential(*[nn.ReLU()] * 2)  # without weights

    def forward(self, x: Tensor) -> Tensor:
        for floor in self.floors:
            x = floor(x)
        return self.ends(x)  # type: ignore[no-any-return]


class Named(nn.Module):
    """A layer with a name, beside a list that repeats something else."""

    def __init__(self, number: int) -> None:
        super().__init__()
        widths = [len("abc")] * number
        floor = nn.Linear(widths[0], widths[-1])
        self.floors = nn.ModuleList([floor] * number)

    def forward(self, x: Tensor) -> Tensor:
        for floor in self.floors:
            x = floor(x)
        return x


def fit(net: nn.Module) -> None:
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(4):
        optimizer.zero_grad()
        (net(torch.randn(8, 3)) - 1).pow(2).mean().backward()
        optimizer.step()


def test_a_layer_that_is_repeated() -> None:
    (finding,) = found(lambda: fit(Floors(3)))
    assert (finding.step, finding.confidence) == (1, Confidence.HIGH)
    assert watching.line(finding) == "self.floors = nn.ModuleList([nn.Linear(3, 3)] * number)"


@pytest.mark.parametrize("make", [Universal, Apart])
def test_layers_that_may_be(make: Callable[[int], nn.Module]) -> None:
    assert found(lambda: fit(make(3))) == []


def test_a_layer_that_has_a_name() -> None:
    (finding,) = found(lambda: fit(Named(3)))
    assert finding.confidence is Confidence.MEDIUM
    assert watching.line(finding) == "self.floors = nn.ModuleList([floor] * number)"


class Trainer:
    def __init__(self, policy: nn.Module, reference: nn.Module) -> None:
        self.policy, self.reference = policy, reference
        self.optimizer = torch.optim.SGD(policy.parameters(), lr=0.1)

    def step(self, x: Tensor) -> None:
        with torch.no_grad():
            before = self.reference(x)
        loss = (self.policy(x) - before).pow(2).mean() + self.policy(x).pow(2).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


class Switched(Trainer):
    def step(self, x: Tensor) -> None:
        with self.disable_adapter():
            super().step(x)

    def disable_adapter(self) -> Any:
        return torch.enable_grad()


class Unused(Trainer):
    """It draws by the policy, without gradients, and asks no reference."""

    def step(self, x: Tensor) -> None:
        with torch.no_grad():
            self.policy(x)
        loss = self.policy(x).pow(2).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


def run(kind: type[Trainer], *, same: bool) -> None:
    policy = nn.Linear(3, 2)
    trainer = kind(policy, policy if same else copy.deepcopy(policy))
    for _ in range(6):
        trainer.step(torch.randn(8, 3))


def test_its_own_reference() -> None:
    (finding,) = found(lambda: run(Trainer, same=True))
    assert (finding.step, finding.confidence) == (3, Confidence.HIGH)
    assert found(lambda: run(Trainer, same=False)) == []


@pytest.mark.parametrize("kind", [Switched, Unused])
def test_one_name_that_is_no_other_network(kind: type[Trainer]) -> None:
    assert found(lambda: run(kind, same=True)) == []


def test_a_best_state_between_samples() -> None:
    """Taken and loaded where no step is looked at."""

    def program() -> None:
        net = nn.Linear(3, 1)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        best: Any = None
        for step in range(90):
            optimizer.zero_grad()
            net(torch.randn(8, 3)).pow(2).mean().backward()
            optimizer.step()
            if step == 60:
                best = net.state_dict()
        net.load_state_dict(best)

    (finding,) = found(program)
    assert "29 steps ago" in finding.label
