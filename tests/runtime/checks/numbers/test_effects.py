"""Steps that do not move the weights are told, once that is sure; those that do move them are not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from watching import told, train

from gradcheck_lint.finding import Confidence


@pytest.mark.parametrize(
    ("steps", "expected"),
    [(2, []), (5, [("GL802", 5, Confidence.HIGH)])],
)
def test_rate_of_zero(steps: int, expected: list[tuple[str, int, Confidence]]) -> None:
    model = nn.Linear(4, 1)
    assert told(lambda: train(model, lambda i: model(torch.ones(1, 4)).sum(), steps, lr=0.0)) == expected


def test_rate_of_zero_under_a_schedule_is_less_sure() -> None:
    model = nn.Linear(4, 1)

    def program() -> None:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: epoch / 10)
        for _ in range(6):
            optimizer.zero_grad()
            model(torch.ones(1, 4)).sum().backward()
            optimizer.step()

    assert told(program) == [("GL802", 5, Confidence.MEDIUM)]


@pytest.mark.parametrize("kind", ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "Adadelta", "NAdam", "RAdam", "Rprop"])
def test_steps_that_move_are_not_told(kind: str) -> None:
    model = nn.Linear(8, 8)
    make = getattr(torch.optim, kind)
    assert told(lambda: train(model, lambda i: (model(torch.randn(4, 8)) - 1).pow(2).mean(), 12, make, lr=1e-3)) == []


def test_rounding_waits_for_momentum() -> None:
    model = nn.Linear(16, 16, bias=False).bfloat16()
    with torch.no_grad():
        model.weight.fill_(1.0)
    x = torch.ones(1, 16, dtype=torch.bfloat16)
    program = lambda: train(model, lambda i: model(x).sum(), 12, lr=2e-3, momentum=0.9)  # noqa: E731
    assert told(program) == []  # a unit in the last place is 0.004, which momentum reaches


def sparse_rewards(model: nn.Module, since: int) -> Callable[[int], Tensor]:
    """A policy gradient: nothing is learned before the first reward."""

    def loss(step: int) -> Tensor:
        picked = model(torch.ones(2, 4)).log_softmax(1)[:, 0]
        return -(picked * float(step >= since)).sum()

    return loss


def test_a_loss_of_zero_has_nothing_to_say_yet() -> None:
    model = nn.Linear(4, 3)
    assert told(lambda: train(model, sparse_rewards(model, 150), 160)) == []
    assert told(lambda: train(model, sparse_rewards(model, 150), 60)) == []  # ended before the first


def test_a_margin_that_all_examples_keep() -> None:
    model = nn.Linear(4, 1)
    with torch.no_grad():
        model.bias.fill_(9.0)
    assert told(lambda: train(model, lambda i: (1 - model(torch.rand(8, 4))).clamp(min=0).mean(), 60)) == []


def test_a_loss_that_was_zero_all_the_time() -> None:
    model = nn.Linear(4, 3)
    findings = told(lambda: train(model, sparse_rewards(model, 1000), 240))
    assert [(code, confidence) for code, _, confidence in findings] == [("GL802", Confidence.MEDIUM)]


def test_gradients_of_zero_where_the_loss_is_none() -> None:
    model = nn.Linear(4, 1)
    findings = told(lambda: train(model, lambda i: 1 + model(torch.ones(2, 4)).mean() * 0, 24))
    assert [(code, confidence) for code, _, confidence in findings][-1:] == [("GL802", Confidence.HIGH)]
