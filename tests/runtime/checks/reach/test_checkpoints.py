"""A reentrant checkpoint goes back only where what it is given requires grad."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from tests.runtime.watching import codes, found


def _train(call: Callable[[nn.Module, torch.Tensor], torch.Tensor], frozen: bool) -> list[str]:
    def program() -> None:
        body, block, head = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 1)
        body.requires_grad_(not frozen)
        optimizer = torch.optim.SGD([*block.parameters(), *head.parameters()], lr=0.1)
        for _ in range(6):
            optimizer.zero_grad()
            head(call(block, body(torch.randn(4, 3)))).square().mean().backward()
            optimizer.step()

    return codes(found(program, ignored=lambda path: frozenset({"GL207"})))


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_checkpoints() -> None:
    def reentrant(block: nn.Module, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = checkpoint(block, x, use_reentrant=True)
        return out

    def other(block: nn.Module, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = checkpoint(block, x, use_reentrant=False)
        return out

    assert _train(reentrant, frozen=True) == ["GL414"]
    assert _train(reentrant, frozen=False) == []
    assert _train(other, frozen=True) == []
    assert _train(lambda block, x: reentrant(block, x.requires_grad_()), frozen=True) == []
