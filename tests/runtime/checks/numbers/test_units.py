"""Units that never get a gradient are found, also where a row has many columns."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from watching import codes, found, numbers, train

from gradcheck_lint import watch
from gradcheck_lint.finding import Confidence


def trained(columns: int, at: slice) -> list[str]:
    """What is said of a layer that gets its input in some columns only; its bias lets `alive` units fire."""
    torch.manual_seed(0)
    layer = nn.Linear(columns, 20)
    model = nn.Sequential(layer, nn.ReLU(), nn.Linear(20, 1))
    with torch.no_grad():
        layer.bias.fill_(-100.0 if at == slice(0) else 10.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    with watch(optimizer, model=model, on_finding="ignore", quiet=True, min_confidence="medium") as run:
        for _ in range(21):
            x = torch.zeros(8, columns)
            x[:, at] = torch.randn_like(x[:, at])
            optimizer.zero_grad()
            model(x).pow(2).mean().backward()
            optimizer.step()
    assert run.record.problems == []
    return [finding.code for finding in run.findings]


@pytest.mark.parametrize("columns", [3, 1000])
def test_dead_rows(columns: int) -> None:
    assert "GL808" in trained(columns, slice(0))


@pytest.mark.parametrize("at", [slice(0, 1000), slice(7, 8)])
def test_rows_that_are_alive_in_few_columns(at: slice) -> None:
    assert "GL808" not in trained(1000, at)


def test_dead_rows_of_one_layer_are_medium() -> None:
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 4), nn.Linear(4, 1))
    with torch.no_grad():
        model[0].bias[1:] = -1000.0
    findings = numbers(lambda: train(model, lambda i: model(torch.randn(8, 4)).sum(), 20)).findings
    assert [(f.code, f.step, f.confidence) for f in findings] == [("GL808", 20, Confidence.MEDIUM)]
    assert "15 of the 16 units of layer 0" in findings[0].label


class Chain(nn.Module):
    """Three layers and a head, which is registered first."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(16, 1)
        self.first, self.second, self.third = nn.Linear(3, 16), nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.second(torch.tanh(self.first(x))))
        return self.head(torch.tanh(self.third(x)))  # type: ignore[no-any-return]


def blamed(model: nn.Module, parameters: list[nn.Parameter] | None = None) -> list[tuple[str, str]]:
    """What is found in a training of the model, or of some parameters of it."""

    def program() -> None:
        optimizer = torch.optim.SGD(parameters or model.parameters(), lr=0.01)
        for _ in range(22):
            optimizer.zero_grad()
            (model(torch.randn(8, 3)) - 1).square().mean().backward()
            optimizer.step()

    return [(finding.code, f"{finding.message}: {finding.label}") for finding in numbers(program).findings]


def test_the_layer_that_lets_nothing_pass_is_to_blame_and_not_those_around_it() -> None:
    model = Chain()
    nn.init.constant_(model.second.bias, -100.0)
    ((code, said),) = blamed(model)
    assert code == "GL808"
    assert "16 of the 16 units of layer second had no gradient" in said
    assert said.endswith("no gradient gets past it, to 1 more before it")


def test_a_head_of_zeros_is_to_blame_and_not_what_lies_before_it() -> None:
    model = Chain()
    nn.init.zeros_(model.head.weight)
    rest = [parameter for name, parameter in model.named_parameters() if name != "head.weight"]
    model.head.weight.requires_grad_(False)
    ((code, said),) = blamed(model, rest)
    assert (code, said.partition(":")[0]) == ("GL808", "no gradient gets past a layer")
    assert "the weights of head are all zero" in said


def test_a_head_that_was_replaced_explains_them() -> None:
    model = Chain()

    def program() -> None:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        model.head.weight = nn.Parameter(torch.zeros(1, 16))
        for _ in range(22):
            optimizer.zero_grad()
            (model(torch.randn(8, 3)) - 1).square().mean().backward()
            optimizer.step()

    assert codes(found(program, least=Confidence.MEDIUM)) == ["GL201"]
