"""Plain tensors that no optimizer holds; no function of this module differentiates by itself, which would be heard."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gradcheck_lint.finding import Confidence
from tests.runtime.far import equation
from tests.runtime.watching import codes, found


@pytest.mark.parametrize(("clears", "told"), [(True, []), (False, ["GL208"])])
def test_an_input_whose_gradient_is_looked_at(clears: bool, told: list[str]) -> None:
    model, x = nn.Linear(3, 1), torch.randn(8, 3, requires_grad=True)

    def program() -> None:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(5):
            optimizer.zero_grad()
            if clears:
                x.grad = None
            model(x).pow(2).mean().backward()
            optimizer.step()

    assert codes(found(program, least=Confidence.MEDIUM)) == told


@pytest.mark.parametrize("clears", [True, False])
def test_a_weight_that_was_left_out_is_told_although_it_is_cleared(clears: bool) -> None:
    weight, bias = torch.zeros(3, requires_grad=True), torch.zeros(1, requires_grad=True)

    def program() -> None:
        optimizer = torch.optim.SGD([weight], lr=0.1)
        for _ in range(5):
            optimizer.zero_grad()
            if clears:
                bias.grad = None
            (torch.randn(8, 3) @ weight + bias - 3).pow(2).mean().backward()
            optimizer.step()

    assert codes(found(program)) == ["GL208"]


def test_the_points_of_an_equation_that_another_module_differentiates_by() -> None:
    def program() -> None:
        problem = equation()
        optimizer = torch.optim.Adam(problem.net.parameters(), lr=0.01)
        for _ in range(5):
            optimizer.zero_grad()
            problem.loss().backward()
            optimizer.step()

    assert codes(found(program, least=Confidence.MEDIUM)) == []


class Fit:
    def __init__(self) -> None:
        self.net, self.shift = nn.Linear(3, 1), torch.zeros(8, 3, requires_grad=True)


def test_an_attribute_of_an_object_has_a_name() -> None:
    def program() -> None:
        fit = Fit()
        optimizer = torch.optim.SGD(fit.net.parameters(), lr=0.1)
        for _ in range(5):
            optimizer.zero_grad()
            fit.net(torch.ones(8, 3) + fit.shift).pow(2).mean().backward()
            optimizer.step()

    (finding,) = found(program, least=Confidence.MEDIUM)
    assert finding.code == "GL208"
    assert "fit.shift" in finding.label
