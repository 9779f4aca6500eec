"""Devices that differ, with `meta` as the second one."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import watching
from torch import nn

from gradcheck_lint.finding import Confidence

found = partial(watching.found, rules=watching.rules("GL504"), least=Confidence.MEDIUM)


def steps(model: nn.Module, optimizer: torch.optim.Optimizer, number: int) -> None:
    for _ in range(number):
        optimizer.zero_grad()
        model(torch.randn(8, 4)).pow(2).mean().backward()
        optimizer.step()


def test_state_elsewhere_is_told_with_both_devices() -> None:
    def program() -> None:
        model = nn.Linear(4, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        steps(model, optimizer, 1)
        optimizer.state[model.weight]["momentum_buffer"] = torch.zeros(1, 4, device="meta")
        steps(model, optimizer, 1)

    findings = found(program)
    assert [(f.code, f.step, f.confidence) for f in findings] == [("GL504", 2, Confidence.HIGH)]
    assert "weight on cpu, but `momentum_buffer` on meta" in findings[0].label


def test_parameters_without_values_are_counted() -> None:
    def program() -> None:
        model = nn.Linear(4, 1)
        with torch.device("meta"):
            other = nn.Linear(4, 1)
        optimizer = torch.optim.SGD([*model.parameters(), *other.parameters()], lr=0.1)
        steps(model, optimizer, 2)

    findings = found(program)
    assert [(f.code, f.step) for f in findings] == [("GL504", 1)]
    assert "2 of 4" in findings[0].label


def test_after_a_load_devices_are_compared_at_the_next_step() -> None:
    def program() -> None:
        model = nn.Linear(4, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        steps(model, optimizer, 2)
        optimizer.load_state_dict(optimizer.state_dict())
        optimizer.state[model.bias]["momentum_buffer"] = torch.zeros(1, device="meta")
        steps(model, optimizer, 1)  # the third, at which nothing is compared otherwise

    assert [(f.code, f.step) for f in found(program)] == [("GL504", 3)]


@pytest.mark.parametrize("kind", ["Adam", "Adagrad", "Rprop", "ASGD"])
def test_counters_and_rates_in_the_state_are_silent(kind: str) -> None:
    def program() -> None:
        model = nn.Linear(4, 1)
        optimizer = getattr(torch.optim, kind)(model.parameters(), lr=0.01)
        steps(model, optimizer, 3)

    assert found(program) == []


def test_model_that_is_all_on_meta_is_silent() -> None:
    def program() -> None:
        with torch.device("meta"):
            model = nn.Linear(4, 1)
            steps(model, torch.optim.SGD(model.parameters(), lr=0.1), 2)

    assert found(program) == []
