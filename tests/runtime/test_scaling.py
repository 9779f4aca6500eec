"""A scaler that raises was called out of turn; one in whose step something else raises was not."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.amp.grad_scaler import GradScaler
from watching import codes, found, record


class Stopped(torch.optim.SGD):
    """Its fourth step fails."""

    error: BaseException = RuntimeError()
    left = 3

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        if not self.left:
            raise self.error
        self.left -= 1
        super().step()


def train(optimizer: torch.optim.Optimizer, model: nn.Module, scaler: GradScaler) -> None:
    for _ in range(6):
        optimizer.zero_grad()
        scaler.scale(model(torch.randn(4, 3)).pow(2).mean()).backward()
        scaler.step(optimizer)
        scaler.update()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("out of memory"), AssertionError("no")])
@pytest.mark.parametrize("enabled", [True, False])
def test_what_the_optimizer_raises_in_its_step_is_no_refusal(error: BaseException, enabled: bool) -> None:
    def program() -> None:
        model = nn.Linear(3, 1)
        optimizer = Stopped(model.parameters(), lr=0.1)
        optimizer.error = error
        with pytest.raises(type(error)):
            train(optimizer, model, torch.amp.GradScaler("cpu", enabled=enabled))

    assert record(program).findings == []


def test_a_step_before_the_scaler_was_updated_is_one() -> None:
    def program() -> None:
        model = nn.Linear(3, 1)
        optimizer, scaler = torch.optim.SGD(model.parameters(), lr=0.1), torch.amp.GradScaler("cpu")
        for _ in range(2):
            optimizer.zero_grad()
            scaler.scale(model(torch.randn(4, 3)).pow(2).mean()).backward()
            scaler.step(optimizer)

    assert codes(found(program, raises=RuntimeError)) == ["GL109"]
