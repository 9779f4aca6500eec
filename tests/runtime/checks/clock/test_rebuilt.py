"""Schedulers whose optimizer was given up for another one, and right programs that look like that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import ChainedScheduler, ConstantLR, ExponentialLR, SequentialLR
from watching import codes, found

from gradcheck_lint.finding import Finding


class Trainer:
    """Trains `first` steps with one optimizer, then calls `change`, then goes on; the schedule moves each 5 steps."""

    def __init__(self) -> None:
        self.model = nn.Linear(3, 1)
        self.optimizer: Any = torch.optim.SGD(self.model.parameters(), lr=0.1)
        self.scheduler: Any = ExponentialLR(self.optimizer, 0.9)
        self.kept: list[Any] = []

    def train(self, steps: int) -> None:
        for step in range(steps):
            self.optimizer.zero_grad()
            self.model(torch.randn(6, 3)).pow(2).mean().backward()
            self.optimizer.step()
            if step % 5 == 4:
                self.scheduler.step()

    def run(self, change: Callable[[Trainer], object], first: int = 30, then: int = 130) -> None:
        self.train(first)
        change(self)
        self.train(then)


def another(trainer: Trainer, rate: float = 0.05) -> Any:
    return torch.optim.SGD(trainer.model.parameters(), lr=rate)


def given_up(trainer: Trainer) -> None:
    trainer.optimizer = another(trainer)


def given_up_for_another_kind(trainer: Trainer) -> None:
    trainer.optimizer = torch.optim.Adam(trainer.model.parameters())


def given_up_by_many_schedulers(trainer: Trainer) -> None:
    parts = [ConstantLR(trainer.optimizer), ExponentialLR(trainer.optimizer, 0.9)]
    trainer.scheduler = SequentialLR(trainer.optimizer, parts, [3])
    trainer.train(10)
    trainer.optimizer = another(trainer)


@pytest.fixture(params=[given_up, given_up_for_another_kind, given_up_by_many_schedulers])
def findings(request: pytest.FixtureRequest) -> list[Finding]:
    """Not in the test itself: its `assert` asks for its variables, and such a function is not looked into."""
    return found(lambda: Trainer().run(request.param))


def test_a_schedule_of_an_optimizer_that_was_given_up(findings: list[Finding]) -> None:
    assert codes(findings) == ["GL116"]
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    assert lines[findings[0].span.line - 1].strip() == "self.scheduler.step()"


def kept_for_later(trainer: Trainer) -> None:
    trainer.kept.append(trainer.optimizer)
    trainer.optimizer = another(trainer)


def kept_in_a_function(trainer: Trainer) -> None:
    first = trainer.optimizer
    trainer.optimizer = another(trainer)
    trainer.train(130)
    trainer.kept.append(first)


def with_a_schedule_of_its_own(trainer: Trainer) -> None:
    trainer.optimizer = another(trainer)
    old = trainer.scheduler
    trainer.scheduler = ChainedScheduler([ExponentialLR(trainer.optimizer, 0.9)], optimizer=trainer.optimizer)
    trainer.kept.append(old)


def both_move(trainer: Trainer) -> None:
    old = trainer.scheduler
    trainer.optimizer = another(trainer)
    new = ExponentialLR(trainer.optimizer, 0.9)

    class Both:
        def step(self) -> None:
            old.step()
            new.step()

    trainer.scheduler = Both()


def the_rate_is_handed_on(trainer: Trainer) -> None:
    old = trainer.scheduler
    trainer.optimizer = another(trainer)

    class HandedOn:
        def step(self) -> None:
            old.step()
            for group in trainer.optimizer.param_groups:
                group["lr"] = old.get_last_lr()[0]

    trainer.scheduler = HandedOn()


def for_other_parameters(trainer: Trainer) -> None:
    trainer.model = nn.Linear(3, 1)
    trainer.optimizer = torch.optim.SGD(trainer.model.parameters(), lr=0.05)


def moved_no_more(trainer: Trainer) -> None:
    trainer.optimizer = another(trainer)
    trainer.kept.append(trainer.scheduler)
    trainer.scheduler = ConstantLR(trainer.optimizer)


@pytest.mark.parametrize("every", [1, 50])
@pytest.mark.parametrize(
    "change",
    [
        kept_for_later,
        kept_in_a_function,
        with_a_schedule_of_its_own,
        both_move,
        the_rate_is_handed_on,
        for_other_parameters,
        moved_no_more,
    ],
)
def test_where_a_second_optimizer_is_right(change: Callable[[Trainer], object], every: int) -> None:
    assert found(lambda: Trainer().run(change), every=every) == []


def test_an_optimizer_for_a_round_in_between() -> None:
    def program() -> None:
        trainer = Trainer()
        trainer.train(30)
        first, trainer.optimizer = trainer.optimizer, another(trainer)
        trainer.train(30)
        trainer.optimizer = first
        trainer.train(30)

    assert found(program) == []
