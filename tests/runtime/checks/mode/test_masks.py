"""Elements whose gradient is set to 0 by the program, and that move all the same."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from tests.runtime.watching import codes, found

Mask = Callable[[torch.Tensor], object]


def masked(mask: Mask, after: Callable[[nn.Embedding], object] = lambda table: None, **options: float) -> list[str]:
    """The findings of a training that changes a gradient before each step."""

    def program() -> None:
        table = nn.Embedding(6, 3)
        optimizer = torch.optim.AdamW(table.parameters(), lr=0.1, **options)  # type: ignore[arg-type]
        for _ in range(8):
            optimizer.zero_grad()
            (table(torch.randint(0, 6, (24,))) - 1).square().mean().backward()
            assert table.weight.grad is not None
            mask(table.weight.grad)
            optimizer.step()
            after(table)

    return codes(found(program))


def rows(grad: torch.Tensor) -> None:
    grad[:4] = 0


def test_weight_decay_moves_what_is_held_back() -> None:
    assert masked(rows) == ["GL508"]


def some_at_random(grad: torch.Tensor) -> None:
    grad.mul_(torch.rand_like(grad) > 0.5)


def clipped_by_hand(grad: torch.Tensor) -> None:
    grad.mul_(0.5)


@pytest.mark.parametrize("mask", [some_at_random, clipped_by_hand, lambda grad: None])
def test_no_mask(mask: Mask) -> None:
    assert masked(mask) == []


def test_nothing_moves_them() -> None:
    assert masked(rows, weight_decay=0.0) == []


def test_pruned_elements_stay_at_zero() -> None:
    def pruned(table: nn.Embedding) -> None:
        table.weight.data[:4] = 0

    assert masked(rows, after=pruned) == []
