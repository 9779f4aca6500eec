"""Gradients that a backward for one optimizer leaves for another's step are told if nobody meant it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from watching import codes, found


def by_others(parameter: torch.Tensor) -> None:
    parameter.grad = torch.zeros_like(parameter)


def in_place(parameter: torch.Tensor) -> None:
    assert parameter.grad is not None
    parameter.grad.data.zero_()


def not_at_all(parameter: torch.Tensor) -> None:
    pass


def gan(rounds: int, clear: Callable[[torch.Tensor], None], *, frozen: bool = False) -> None:
    maker, judge = nn.Linear(4, 6), nn.Linear(6, 1)
    both = [*maker.parameters(), *judge.parameters()]
    make, judging = torch.optim.Adam(maker.parameters()), torch.optim.Adam(judge.parameters())

    for _ in range(rounds):
        fake = judge(maker(torch.randn(5, 4)))
        (fake - judge(torch.rand(5, 6))).mean().backward()
        judging.step()
        for parameter in both:
            if parameter.grad is not None:
                clear(parameter)
        judge.requires_grad_(not frozen)
        (-judge(maker(torch.randn(5, 4)))).mean().backward()
        make.step()
        judge.requires_grad_(True)
        judging.zero_grad()
        make.zero_grad()


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("clear", [by_others, in_place])
@pytest.mark.parametrize("rounds", [1, 2, 3, 30])
def test_gradients_that_were_cleared_by_hand_leak_nowhere(
    rounds: int, clear: Callable[[torch.Tensor], None], frozen: bool
) -> None:
    assert codes(found(lambda: gan(rounds, clear, frozen=frozen))) == []


def test_those_that_were_left_there_do() -> None:
    assert codes(found(lambda: gan(4, not_at_all))) == ["GL409"]
