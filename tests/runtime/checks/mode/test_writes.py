"""What is expected to stay as it is: told when it moves, whatever its dtype, and not when it is converted."""

from __future__ import annotations

import pytest
import torch
import watching
from torch import nn
from watching import numbers, told, train

from gradcheck_lint.finding import Confidence


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


@pytest.mark.filterwarnings("ignore:Complex modules")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64])
def test_what_moves_is_told(dtype: torch.dtype) -> None:
    assert trained(dtype, write=True) == ["GL508"]
    assert trained(dtype) == []


def test_what_is_converted_has_not_moved() -> None:
    assert trained(torch.float32, convert=torch.bfloat16) == []
    assert trained(torch.float32, convert=torch.bfloat16, write=True) == ["GL508"]


def test_expected_frozen_is_told_of_the_names_that_moved() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1))
    record = numbers(lambda: train(model, lambda i: model(torch.randn(4, 4)).sum(), 3), expect_frozen=("0",))
    assert [(f.code, f.step, f.confidence) for f in record.findings] == [("GL508", 2, Confidence.HIGH)]
    assert "0.weight and 0.bias" in record.findings[0].label


def test_load_between_steps_is_no_writing() -> None:
    model = nn.Linear(4, 1)
    state = {name: value.clone() for name, value in model.state_dict().items()}

    def program() -> None:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.randn(2, 4)).sum().backward()
            optimizer.step()
            model.load_state_dict(state)

    assert told(program) == []


def test_shared_weights_are_written_by_the_other_optimizer() -> None:
    model = nn.Linear(4, 1)

    def program() -> None:
        first = torch.optim.SGD(model.parameters(), lr=0.1)
        second = torch.optim.Adam(model.parameters(), lr=0.1)
        for _ in range(3):
            for optimizer in (first, second):
                optimizer.zero_grad()
                model(torch.randn(2, 4)).pow(2).sum().backward()
                optimizer.step()

    assert told(program) == []
