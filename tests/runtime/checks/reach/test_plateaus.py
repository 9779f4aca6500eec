"""Parameters behind rounding, signs and draws, and the many programs in which these harm nothing."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
import watching
from torch import Tensor, nn

from gradcheck_lint.runtime.graph import reach

RULES = watching.rules("GL403")
found = partial(watching.found, rules=RULES)

FLAT: dict[str, Callable[[Tensor], Tensor]] = {
    "round": torch.round,
    "decimals": lambda x: torch.round(x, decimals=1),
    "floor": torch.floor,
    "ceil": torch.Tensor.ceil,
    "trunc": torch.trunc,
    "fix": torch.fix,
    "sign": torch.sign,
    "in place": lambda x: (2 * x).round_(),
    "division": lambda x: torch.div(x, 0.5, rounding_mode="floor"),
    "division by a tensor": lambda x: torch.div(x, torch.ones(2), rounding_mode="trunc"),
    "bernoulli": lambda x: torch.bernoulli(x.sigmoid()),
    "poisson": lambda x: torch.poisson(x.exp()),
    "mean": lambda x: torch.normal(x, 1.0),
    "deviation": lambda x: torch.normal(0.0, x.exp()),
    "both": lambda x: torch.normal(x, x.exp()),
}
PASSING: dict[str, Callable[[Tensor], Tensor]] = {
    "straight through": lambda x: x + (x.round() - x).detach(),
    "fraction": lambda x: x - x.floor(),
    "remainder": lambda x: x.remainder(1.0),
    "plain division": lambda x: torch.div(x, 0.5),
    "size by sign": lambda x: x * x.sign(),
    "clamped": lambda x: x.clamp(-1, 1),
    "noise": lambda x: x + torch.normal(torch.zeros(2), 1.0),
    "dropped": lambda x: x * torch.bernoulli(torch.full((2,), 0.5)),
    "no graph": lambda x: x + x.detach().round(),
}


class Net(nn.Module):
    def __init__(self, between: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.encoder = nn.Linear(3, 2)
        self.head = nn.Linear(2, 1)
        self.between = between

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.between(self.encoder(x)))
        return out


def train(model: nn.Module, steps: int = 6, also: Callable[[nn.Module], Tensor | float] = lambda model: 0.0) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        (model(torch.randn(8, 3)).square().mean() + also(model)).backward()
        optimizer.step()


@pytest.mark.parametrize("name", FLAT)
def test_flat(name: str) -> None:
    assert len(found(lambda: train(Net(FLAT[name])))) == 1


@pytest.mark.parametrize("name", FLAT)
def test_derivative_is_zero(name: str) -> None:
    """What the check believes of torch."""
    x = torch.randn(5, 2, requires_grad=True)
    out = FLAT[name](x)
    (grad,) = torch.autograd.grad(out.sum(), x)
    assert not grad.any()
    assert reach([out.sum()]).flat


@pytest.mark.parametrize("name", PASSING)
def test_what_passes(name: str) -> None:
    assert found(lambda: train(Net(PASSING[name]))) == []


def test_another_way() -> None:
    def penalty(model: nn.Module) -> Tensor:
        assert isinstance(model, Net)
        return model.encoder.weight.square().sum() + model.encoder.bias.square().sum()

    assert found(lambda: train(Net(torch.round), also=penalty)) == []


def test_another_loss() -> None:
    def program() -> None:
        model = Net(torch.round)
        first = torch.optim.SGD(model.parameters(), lr=0.01)
        for _ in range(6):
            first.zero_grad()
            model(torch.randn(8, 3)).square().mean().backward()
            model.encoder(torch.randn(8, 3)).square().mean().backward()
            first.step()

    assert found(program) == []


def test_a_part_of_the_model_is_named_and_so_is_the_place() -> None:
    class Rounds(Net):
        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.head(self.encoder(x).round())
            return out

    (finding,) = found(lambda: train(Rounds(torch.relu)))
    assert "encoder.weight and encoder.bias" in finding.label
    assert "`round`" in finding.label
    assert finding.span.line == Rounds.forward.__code__.co_firstlineno + 1


def test_whole_model() -> None:
    def program() -> None:
        model = nn.Linear(3, 1)
        optimizer = torch.optim.Adam(model.parameters())
        for _ in range(6):
            optimizer.zero_grad()
            (model(torch.randn(8, 3)).sign() - 1).square().mean().backward()
            optimizer.step()

    (finding,) = found(program)
    assert "every parameter" in finding.label


def test_parameters_of_no_optimizer_and_those_that_are_frozen() -> None:
    def of_another() -> None:
        model = Net(torch.round)
        optimizer = torch.optim.SGD(model.head.parameters(), lr=0.01)
        for _ in range(6):
            optimizer.zero_grad()
            model(torch.randn(8, 3)).square().mean().backward()
            optimizer.step()

    def frozen() -> None:
        model = Net(torch.round)
        model.encoder.requires_grad_(False)
        train(model)

    assert found(of_another) == []
    assert found(frozen) == []


def test_two_operations_are_told_apart() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left = nn.Linear(3, 1)
            self.right = nn.Linear(3, 1)

        def forward(self, x: Tensor) -> Tensor:
            left: Tensor = self.left(x).round()
            right: Tensor = self.right(x).sign()
            return left + right

    labels = [finding.label for finding in found(lambda: train(Both()))]
    assert len(labels) == 2
    assert any("left" in label and "`round`" in label for label in labels)
    assert any("right" in label and "`sign`" in label for label in labels)
