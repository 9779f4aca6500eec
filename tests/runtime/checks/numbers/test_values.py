"""Losses and gradients are read now and then; what they show is told once: with step, names, and how sure it is."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from watching import numbers, told, train

from gradcheck_lint.finding import Confidence
from gradcheck_lint.runtime.later import Later
from gradcheck_lint.runtime.layers import layers

# The series


def test_series_hold_the_early_samples_and_then_each_that_is_checked() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    series = numbers(lambda: train(model, lambda i: model(torch.randn(8, 4)).pow(2).mean(), 12)).series
    assert set(series) == {
        "loss", "gradient/optimizer/0", "gradient/optimizer/2", "update/optimizer/0", "update/optimizer/2"
    }  # fmt: skip
    assert [step for step, _ in series["gradient/optimizer/0"]] == [1, 2, 5, 10]
    assert [step for step, _ in series["update/optimizer/2"]] == [1, 2, 5, 10]
    assert [step for step, _ in series["loss"]] == list(range(1, 13))


def test_gradient_and_update_are_what_they_are_called() -> None:
    model = nn.Linear(3, 2, bias=False)
    before = model.weight.detach().clone()
    series = numbers(lambda: train(model, lambda i: model(torch.ones(1, 3)).sum(), 1, lr=0.5)).series
    assert series["gradient/optimizer/weight"] == [(1, pytest.approx(math.sqrt(6)))]
    assert series["update/optimizer/weight"] == [(1, pytest.approx(0.5 * math.sqrt(6) / before.norm().item()))]


def test_light_level_reads_no_gradients() -> None:
    model = nn.Linear(3, 1)
    series = numbers(lambda: train(model, lambda i: model(torch.ones(1, 3)).sum(), 3), level="light").series
    assert set(series) == {"loss"}


def test_losses_and_optimizers_of_one_name_have_series_of_their_own() -> None:
    first, second = nn.Linear(2, 1), nn.Linear(2, 1)

    def program() -> None:
        pair = {1: torch.optim.SGD(first.parameters(), lr=0.1), 2: torch.optim.SGD(second.parameters(), lr=0.1)}
        for _ in range(2):
            loss_one = first(torch.ones(1, 2)).sum()
            loss_one.backward()
            loss_two = second(torch.ones(1, 2)).sum()
            loss_two.backward()
            for optimizer in pair.values():
                optimizer.step()
                optimizer.zero_grad()

    series = numbers(program).series
    assert [len(series[name]) for name in ("loss", "loss/loss_two")] == [2, 2]
    assert len({name.split("/")[1] for name in series if name.startswith("gradient/")}) == 2


def test_names_and_layers_are_found_once_for_each_optimizer(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[list[str]] = []
    monkeypatch.setattr(
        "gradcheck_lint.runtime.checks.numbers.plans.layers", lambda names: found.append(names) or layers(names)
    )
    model = nn.Linear(3, 2)
    numbers(lambda: train(model, lambda i: model(torch.ones(1, 3)).sum(), 12))
    assert found == [["weight", "bias"]]


# Not finite


def test_first_culprit_is_nearest_to_the_loss() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1, bias=False))

    def loss(i: int) -> Tensor:
        y: Tensor = model(torch.ones(4, 2)).mean()
        return y

    def program() -> None:
        with torch.no_grad():
            model[1].weight.fill_(1.0)
        train(model, lambda i: _poisoned(loss(i), model, i), 3)

    finding = numbers(program).findings[0]
    assert (finding.code, finding.step, finding.confidence) == ("GL801", 2, Confidence.HIGH)
    assert "the gradients of 1.weight were not finite; the loss was" in finding.label
    assert "`1.weight`" in finding.help


def test_a_step_that_makes_nan_of_good_gradients_is_not_laid_on_them() -> None:
    class Rooted(torch.optim.Optimizer):
        def __init__(self, params: Any) -> None:
            super().__init__(params, {})

        @torch.no_grad()
        def step(self, closure: Any = None) -> None:
            for parameter in self.param_groups[0]["params"]:
                parameter.add_((parameter.grad - parameter.grad.abs().max()).sqrt())

    model = nn.Linear(2, 1)

    def program() -> None:
        optimizer = Rooted(model.parameters())
        for _ in range(4):
            optimizer.zero_grad()
            model(torch.tensor([[1.0, 2.0]])).sum().backward()
            optimizer.step()

    (finding,) = [finding for finding in numbers(program).findings if finding.code == "GL801"]
    assert finding.message == "the step has made NaN or Inf of the weights"
    assert "were not finite; the gradients were, and the loss was" in finding.label
    assert "roots and divisions" in finding.help


@pytest.mark.parametrize("at", range(12))
def test_a_gradient_is_looked_at_before_it_is_gone(at: int) -> None:
    """At each of the first steps, and not only where all numbers are read."""
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))

    def loss(i: int) -> Tensor:
        return _poisoned(model(torch.ones(4, 2)).mean(), model, int(i == at))

    (finding,) = [f for f in numbers(lambda: train(model, loss, 14)).findings if f.code == "GL801"]
    assert (finding.message, finding.step) == ("a gradient is NaN or Inf, and the loss is not", at + 1)


def test_an_option_that_is_zero_in_the_dtype_of_the_weights() -> None:
    def program() -> None:
        model = nn.Linear(2, 1).half()
        train(model, lambda i: model(torch.full((2, 2), 1e-3).half()).mean() * 1e-2, 3, torch.optim.Adam)

    (finding,) = [f for f in numbers(program).findings if f.code == "GL801"]
    assert finding.help.startswith("`eps=1e-08` is 0 in float16")


def test_what_has_made_the_nan_is_not_known_where_nobody_looked() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))

    def loss(i: int) -> Tensor:
        return _poisoned(model(torch.ones(4, 2)).mean(), model, int(i == 30))

    (finding,) = [f for f in numbers(lambda: train(model, loss, 60)).findings if f.code == "GL801"]
    assert finding.message == "the weights have become NaN or Inf"
    assert "`--every 1 --level deep`" in finding.help


def _poisoned(loss: Tensor, model: nn.Module, step: int) -> Tensor:
    """A loss that is a number and whose gradient is not."""
    zero = (model[1].weight - model[1].weight.detach()).pow(2).sum()  # type: ignore[index]
    return loss + zero.sqrt() * model(torch.ones(1, 2)).sum() if step == 1 else loss


def test_what_is_known_when_the_optimizer_is_gone_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting: list[tuple[Later, Callable[[], None]]] = []

    def read(later: Later, tensors: list[Tensor], then: Callable[[list[list[float]]], None]) -> None:
        values = [tensor.flatten().tolist() for tensor in tensors]
        waiting.append((later, lambda: then(values)))

    def finish(later: Later) -> None:
        for _, arrives in [one for one in waiting if one[0] is later]:
            arrives()

    monkeypatch.setattr(Later, "read", read)
    monkeypatch.setattr(Later, "finish", finish)
    model = nn.Linear(2, 1)
    assert told(lambda: train(model, lambda i: model(torch.full((1, 2), 1e30)).sum(), 1, lr=0.0)) == []
    assert waiting


def test_norm_that_overflows_is_not_a_gradient_that_does() -> None:
    weight = torch.ones(4, requires_grad=True)

    def program() -> None:
        optimizer = torch.optim.SGD([weight], lr=1e-30)
        for _ in range(2):
            optimizer.zero_grad()
            (weight * 1e25).sum().backward()
            optimizer.step()

    assert not [code for code, _, _ in told(program) if code == "GL801"]


def test_loss_is_told_once_and_what_follows_from_it_is_not() -> None:
    model = nn.Linear(2, 1)
    program = lambda: train(model, lambda i: model(torch.ones(1, 2)).sum() * (math.inf if i == 2 else 1), 8)  # noqa: E731
    assert told(program) == [("GL809", 3, Confidence.HIGH)]


def test_loss_at_a_step_that_is_merely_checked() -> None:
    model = nn.Linear(2, 1)
    program = lambda: train(model, lambda i: model(torch.ones(1, 2)).sum() * (math.inf if i == 32 else 1), 40)  # noqa: E731
    assert told(program, every=1) == [("GL809", 33, Confidence.HIGH)]


def test_loss_without_harm_is_less_sure() -> None:
    model = nn.Linear(2, 1)
    program = lambda: train(model, lambda i: model(torch.ones(1, 2)).sum() + (math.nan if i == 2 else 0), 4)  # noqa: E731
    assert told(program) == [("GL809", 3, Confidence.MEDIUM)]


def test_loss_whose_gradients_are_dropped_is_not_told() -> None:
    model = nn.Linear(2, 1)

    def program() -> None:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for i in range(4):
            optimizer.zero_grad()
            loss = model(torch.ones(1, 2)).sum() * (math.nan if i == 1 else 1)
            loss.backward()
            if loss.isfinite():
                optimizer.step()

    assert told(program) == []
