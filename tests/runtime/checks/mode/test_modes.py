"""Layers in evaluation mode at a step: told of a call that was forgotten, silent about one that is meant."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
import watching
from torch import nn

from gradcheck_lint.finding import Confidence

found = partial(watching.found, rules=watching.rules("GL501", "GL508"), least=Confidence.MEDIUM)


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 1))


def training(model: nn.Module, between: Callable[[int], object], epochs: int = 3, steps: int = 3) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for epoch in range(epochs):
        for _ in range(steps):
            optimizer.zero_grad()
            model(torch.randn(8, 4)).pow(2).mean().backward()
            optimizer.step()
        between(epoch)


def test_eval_is_told_at_its_own_line_and_once() -> None:
    model = net()
    findings = found(lambda: training(model, lambda epoch: model.eval()))
    assert [(f.code, f.step, f.confidence) for f in findings] == [("GL501", 5, Confidence.HIGH)]
    assert "model.eval()" in findings[0].note
    assert "before step 4" in findings[0].label


def test_one_step_in_evaluation_mode_is_not_told() -> None:
    model = net()

    def between(epoch: int) -> None:
        model.train(epoch != 0)

    assert found(lambda: training(model, between, epochs=5, steps=1)) == []


def test_part_of_the_layers_is_less_sure() -> None:
    model = nn.Sequential(net(), nn.Dropout(0.1))
    findings = found(lambda: training(model, lambda epoch: model[0].eval()))
    assert [(f.code, f.confidence) for f in findings] == [("GL501", Confidence.MEDIUM)]


@pytest.mark.parametrize(
    "between",
    [
        pytest.param(lambda model: (model.eval(), model.train()), id="undone"),
        pytest.param(
            lambda model: [m.eval() for m in model.modules() if isinstance(m, nn.BatchNorm1d)], id="one by one"
        ),
        pytest.param(lambda model: model[0].requires_grad_(False).eval(), id="frozen"),
    ],
)
def test_what_is_meant_is_silent(between: Callable[[nn.Sequential], object]) -> None:
    model = nn.Sequential(net(), nn.Linear(1, 1))
    assert [f for f in found(lambda: training(model, lambda epoch: between(model))) if f.code == "GL501"] == []


def test_model_without_such_layers_is_silent() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Dropout(0.0), nn.Linear(8, 1))
    assert found(lambda: training(model, lambda epoch: model.eval())) == []


def test_other_model_in_evaluation_mode_is_silent() -> None:
    model, teacher = net(), net()

    def program() -> None:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        for _ in range(4):
            teacher.eval()
            x = torch.randn(8, 4)
            optimizer.zero_grad()
            (model(x) - teacher(x).detach()).pow(2).mean().backward()
            optimizer.step()

    assert found(program) == []


def test_statistics_of_frozen_norm_layers_are_medium() -> None:
    model = net()
    model[:3].requires_grad_(False)
    findings = found(lambda: training(model, lambda epoch: None))
    assert [(f.code, f.step, f.confidence) for f in findings] == [("GL508", 2, Confidence.MEDIUM)]


def test_frozen_norm_layers_in_evaluation_mode_are_silent() -> None:
    model = net()
    model[:3].requires_grad_(False).eval()
    assert found(lambda: training(model, lambda epoch: None)) == []


class Learner(nn.Module):
    """A network and its average, which no gradient moves and which follows the batches as the network does."""

    def __init__(self, write: Callable[[nn.Module, nn.Module], object]) -> None:
        super().__init__()
        self.online, self.target = net(), net().requires_grad_(False)
        self.write = write

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            wanted = self.target(x)
        return self.online(x) - wanted


def averaged(target: nn.Module, online: nn.Module) -> None:
    for old, new in zip(target.parameters(), online.parameters(), strict=True):
        old.data = 0.9 * old.data + 0.1 * new.data


def averaged_in_place(target: nn.Module, online: nn.Module) -> None:
    for old, new in zip(target.parameters(), online.parameters(), strict=True):
        old.mul_(0.9).add_(new, alpha=0.1)


@pytest.mark.parametrize("write", [averaged, averaged_in_place])
def test_statistics_of_an_average_are_silent(write: Callable[[nn.Module, nn.Module], object]) -> None:
    learner = Learner(write)

    def program() -> None:
        optimizer = torch.optim.SGD(learner.online.parameters(), lr=0.01)
        for _ in range(4):
            optimizer.zero_grad()
            learner(torch.randn(8, 4)).pow(2).mean().backward()
            optimizer.step()
            with torch.no_grad():
                learner.write(learner.target, learner.online)

    assert found(program) == []


def test_statistics_of_a_frozen_part_beside_an_average_are_told() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), net())
    model[:2].requires_grad_(False)
    findings = found(lambda: training(model, lambda epoch: None))
    assert [f.code for f in findings] == ["GL508"]
