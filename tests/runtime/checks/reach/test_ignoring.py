"""Functions that do not look at the gradient that comes in."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
import watching
from torch import Tensor, nn

from gradcheck_lint.finding import Confidence

found = partial(watching.found, rules=watching.rules("GL602"), least=Confidence.MEDIUM)


class Ignores(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.pow(2).mean()

    @staticmethod
    def backward(ctx: Any, came: Tensor) -> Tensor:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        return 2 * x / x.numel()  # type: ignore[no-any-return]


class Looks(Ignores):
    @staticmethod
    def backward(ctx: Any, came: Tensor) -> Tensor:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        return came * 2 * x / x.numel()  # type: ignore[no-any-return]


class Flat(Ignores):
    """Its derivative is 0."""

    @staticmethod
    def backward(ctx: Any, came: Tensor) -> Tensor:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        return torch.zeros_like(x)


class Owns(Ignores):
    """Hands on whatever it is given."""

    @staticmethod
    def backward(ctx: Any, *all_that_came: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return all_that_came[0] * 2 * x / x.numel()  # type: ignore[no-any-return]


class Guesses(torch.autograd.Function):
    """Hands back a gradient that was computed elsewhere, on purpose."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, guess: Tensor) -> Tensor:
        ctx.save_for_backward(guess)
        return x.clone()

    @staticmethod
    def backward(ctx: Any, came: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        (guess,) = ctx.saved_tensors
        return guess, None


class Invents(torch.autograd.Function):
    """The same, computed on the way."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(torch.tanh(x))
        return x.clone()

    @staticmethod
    def backward(ctx: Any, came: Tensor) -> Tensor:  # type: ignore[override]
        (guess,) = ctx.saved_tensors
        return guess  # type: ignore[no-any-return]


def train(function: Any, weight: float) -> None:
    net = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    for _ in range(4):
        optimizer.zero_grad()
        (weight * function.apply(net(torch.randn(8, 3)))).backward()
        optimizer.step()


def test_what_comes_in_is_lost() -> None:
    (finding,) = found(lambda: train(Ignores, 0.5))
    assert (finding.step, finding.confidence) == (1, Confidence.HIGH)
    assert "return 2 * x" in watching.line(finding)


def test_a_gradient_of_another_origin() -> None:
    class Guessed:
        @staticmethod
        def apply(x: Tensor) -> Tensor:
            return Guesses.apply(x, torch.ones_like(x) / 3).sum()  # type: ignore[no-any-return]

    class Invented:
        @staticmethod
        def apply(x: Tensor) -> Tensor:
            return Invents.apply(x).sum()  # type: ignore[no-any-return]

    for function in (Guessed, Invented):
        (finding,) = found(lambda function=function: train(function, 0.5))
        assert finding.confidence is Confidence.MEDIUM


def test_a_last_step_whose_gradient_is_one() -> None:
    assert found(lambda: train(Ignores, 1.0)) == []


@pytest.mark.parametrize("function", [Looks, Flat, Owns])
def test_functions_that_look(function: type[torch.autograd.Function]) -> None:
    assert found(lambda: train(function, 0.5)) == []
