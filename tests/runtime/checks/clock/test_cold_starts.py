"""Optimizers that are built again and again: for the next epoch, which is a mistake, or for a training of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from watching import record

from gradcheck_lint.finding import Confidence


def batches(number: int = 4) -> list[tuple[Tensor, Tensor]]:
    return [(torch.randn(8, 3), torch.randn(8, 1)) for _ in range(number)]


def train(net: nn.Module, optimizer: Any, data: list[tuple[Tensor, Tensor]]) -> None:
    for x, y in data:
        optimizer.zero_grad()
        mse_loss(net(x), y).backward()
        optimizer.step()


def told(program: Callable[[], object]) -> list[tuple[str, Confidence]]:
    findings = record(program, least=Confidence.MEDIUM).findings
    return [(finding.code, finding.confidence) for finding in findings if finding.code == "GL114"]


# Mistakes


def a_rate_decayed_by_hand() -> None:
    net, data = nn.Linear(3, 1), batches()
    for epoch in range(6):
        optimizer = torch.optim.Adam(net.parameters(), lr=0.01 * 0.9**epoch)
        train(net, optimizer, data)


def one_epoch(net: nn.Module, data: list[tuple[Tensor, Tensor]], rate: float) -> None:
    optimizer = torch.optim.SGD(net.parameters(), lr=rate, momentum=0.9)
    train(net, optimizer, data)


def in_a_function() -> None:
    net, rate = nn.Linear(3, 1), 0.1
    for epoch in range(6):
        one_epoch(net, batches(), rate)
        if epoch > 2:
            rate *= 0.5


def long_epochs() -> None:
    net, data = nn.Linear(3, 1), batches(120)
    for _epoch in range(5):
        train(net, torch.optim.Adam(net.parameters(), lr=0.01), data)


class Trainer:
    def __init__(self) -> None:
        self.net = nn.Linear(3, 1)
        self.epoch = 0

    def begin(self) -> None:
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=0.1 / (1 + self.epoch))

    def fit(self) -> None:
        data = batches()
        while self.epoch < 6:
            self.begin()
            train(self.net, self.optimizer, data)
            self.epoch += 1


def an_epoch_that_an_object_counts() -> None:
    Trainer().fit()


@pytest.mark.parametrize(
    "program", [a_rate_decayed_by_hand, in_a_function, long_epochs, an_epoch_that_an_object_counts]
)
def test_an_optimizer_for_each_epoch(program: Callable[[], object]) -> None:
    assert told(program) == [("GL114", Confidence.HIGH)]


def nothing_says_what_a_turn_is() -> None:
    net, data = nn.Linear(3, 1), batches()
    for _ in range(6):
        optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
        for x, y in data:
            optimizer.zero_grad()
            mse_loss(net(x), y).backward()
            optimizer.step()


def test_turns_of_an_unknown_kind() -> None:
    assert told(nothing_says_what_a_turn_is) == [("GL114", Confidence.MEDIUM)]


# Cold starts


def elastic_weights() -> None:
    """Each task begins anew, and is tied to what the last ones need."""
    net, fisher, stars = nn.Linear(3, 1), None, None
    for _task in range(6):
        x, y = torch.randn(16, 3), torch.randn(16, 1)
        optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
        for _epoch in range(10):
            loss = mse_loss(net(x), y)
            if fisher is not None and stars is not None:
                loss = loss + sum(
                    (f * (p - s) ** 2).sum() for f, p, s in zip(fisher, net.parameters(), stars, strict=True)
                )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        optimizer.zero_grad()
        mse_loss(net(x), y).backward()
        fisher = [p.grad.square() for p in net.parameters() if p.grad is not None]
        stars = [p.detach().clone() for p in net.parameters()]


def a_function_for_each_task() -> None:
    net = nn.Linear(3, 1)
    for _ in range(6):
        one_task(net, torch.randn(16, 3), torch.randn(16, 1))


def one_task(net: nn.Module, inputs: Tensor, targets: Tensor) -> None:
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(8):
        optimizer.zero_grad()
        mse_loss(net(inputs), targets).backward()
        optimizer.step()


def snapshots() -> None:
    """A cycle of the rate ends with a network that is kept, and the next one goes on from it."""
    net, data, kept = nn.Linear(3, 1), batches(), []
    for _ in range(6):
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 4)
        for _ in range(4):
            train(net, optimizer, data)
            scheduler.step()
        kept.append([p.detach().clone() for p in net.parameters()])


def fitted_values() -> None:
    net = nn.Linear(3, 1)
    state, reward, after = torch.randn(32, 3), torch.randn(32, 1), torch.randn(32, 3)
    for _ in range(8):
        with torch.no_grad():
            target = reward + 0.9 * net(after)
        optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
        for _ in range(10):
            pick = torch.randint(32, (8,))
            optimizer.zero_grad()
            mse_loss(net(state[pick]), target[pick]).backward()
            optimizer.step()


def long_fits() -> None:
    net, x, y = nn.Linear(3, 1), torch.randn(8, 3), torch.randn(8, 1)
    for _ in range(5):
        optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
        for _ in range(120):
            optimizer.zero_grad()
            mse_loss(net(x), y).backward()
            optimizer.step()


def a_search_for_a_rate() -> None:
    net, data = nn.Linear(3, 1), batches()
    for rate in (0.1, 0.03, 0.01, 0.003, 0.001, 0.0003):
        train(net, torch.optim.Adam(net.parameters(), lr=rate), data)


def growing_data() -> None:
    """Active learning: what was asked for is added to the pool of labels."""
    net, x, y = nn.Linear(3, 1), torch.randn(8, 3), torch.randn(8, 1)
    for _ in range(6):
        optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
        for _ in range(10):
            optimizer.zero_grad()
            mse_loss(net(x), y).backward()
            optimizer.step()
        x, y = torch.cat([x, torch.randn(4, 3)]), torch.cat([y, torch.randn(4, 1)])


@pytest.mark.parametrize(
    "program",
    [
        elastic_weights,
        a_function_for_each_task,
        snapshots,
        fitted_values,
        long_fits,
        a_search_for_a_rate,
        growing_data,
    ],
)
def test_a_cold_start_is_meant(program: Callable[[], object]) -> None:
    assert told(program) == []
