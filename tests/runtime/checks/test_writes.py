"""What is expected to stay as it is: told when it moves, whatever its dtype, and not when it is converted."""

from __future__ import annotations

import pytest
import torch
import watching
from torch import nn


def trained(dtype: torch.dtype, *, write: bool = False, convert: torch.dtype | None = None) -> list[str]:
    def program() -> None:
        model = nn.ModuleDict({"body": nn.Linear(3, 4), "head": nn.Linear(4, 1)}).to(dtype)
        model["body"].requires_grad_(False)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for step in range(6):
            optimizer.zero_grad()
            x = torch.randn(8, 3).to(model["body"].weight.dtype)
            model["head"](model["body"](x)).abs().mean().backward()
            optimizer.step()
            if write:
                with torch.no_grad():
                    model["body"].weight.mul_(0.5)
            if convert is not None and step == 2:
                model.to(convert)

    rules = watching.rules("GL508")
    return watching.codes(watching.found(program, rules=rules, expect_frozen=("model.body", "body")))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64])
def test_what_moves_is_told(dtype: torch.dtype) -> None:
    assert trained(dtype, write=True) == ["GL508"]
    assert trained(dtype) == []


def test_what_is_converted_has_not_moved() -> None:
    assert trained(torch.float32, convert=torch.bfloat16) == []
    assert trained(torch.float32, convert=torch.bfloat16, write=True) == ["GL508"]
