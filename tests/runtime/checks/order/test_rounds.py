"""What is told of an optimizer when the run is over, and when it was cut short."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from watching import codes, found


def phases(turns: int, *, stops: bool) -> None:
    """Two optimizers in turn, five steps each."""
    body, head = nn.Linear(3, 4), nn.Linear(4, 1)
    optimizers = [torch.optim.Adam(part.parameters()) for part in (body, head)]
    for turn in range(turns):
        for optimizer in optimizers:
            optimizer.zero_grad()
        head(body(torch.randn(8, 3)).relu()).pow(2).mean().backward()
        optimizers[turn // 5 % 2].step()
    if stops:
        raise ValueError


@pytest.mark.parametrize(
    ("turns", "stops", "told"), [(4, True, []), (4, False, ["GL115"]), (12, True, []), (12, False, [])]
)
def test_a_step_that_was_to_come_is_not_missed(turns: int, stops: bool, told: list[str]) -> None:
    assert codes(found(lambda: phases(turns, stops=stops), ValueError if stops else None)) == told


def test_one_that_never_came_is_missed_in_a_run_that_was_stopped_too() -> None:
    def program() -> None:
        body, head = nn.Linear(3, 4), nn.Linear(4, 1)
        first, second = (torch.optim.Adam(part.parameters()) for part in (body, head))
        for _ in range(40):
            first.zero_grad()
            second.zero_grad()
            head(body(torch.randn(8, 3)).relu()).pow(2).mean().backward()
            second.step()
        raise KeyError

    assert codes(found(program, KeyError)) == ["GL115"]


def test_a_closure_whose_backward_reaches_another_network_is_not_said_to_have_none() -> None:
    def program() -> None:
        held, trained = nn.Linear(5, 2), nn.Linear(3, 1)
        optimizer = torch.optim.LBFGS(held.parameters(), max_iter=2)

        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            trained.zero_grad()
            loss = trained(torch.ones(2, 3)).pow(2).mean()
            loss.backward()
            return loss

        for _ in range(6):
            optimizer.step(closure)

    assert "the closure makes no gradients" in [finding.message for finding in found(program)]
