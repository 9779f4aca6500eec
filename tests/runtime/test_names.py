"""What the user calls a tensor, wherever its model is kept.

The programs are functions of their own: pytest makes those that assert ask for `locals()`, and so they are not looked
into; see `sites.variables`.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
import torch
from torch import nn

from gradcheck_lint import watch
from gradcheck_lint.runtime.names import Models, variable
from tests.runtime.watching import record

KEPT: dict[str, Any] = {}


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Sequential(nn.Linear(4, 1, bias=False)))


def steps(call: Callable[[torch.Tensor], torch.Tensor], parameters: Any) -> list[str]:
    """The names that the record has for the parameters of an optimizer."""
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    with watch(optimizer, on_finding="ignore", quiet=True) as run:
        for _ in range(3):
            optimizer.zero_grad()
            call(torch.randn(2, 3)).sum().backward()
            optimizer.step()
    assert run.record.problems == []
    return [parameter.name for parameter in run.record.optimizers[0].parameters]


def in_a_variable() -> list[str]:
    model = net()
    return steps(model.forward, model.parameters())


def in_a_dict() -> list[str]:
    models = {"small": net()}
    return steps(models["small"].forward, models["small"].parameters())


def in_a_list() -> list[str]:
    models = [net()]
    return steps(models[0].forward, models[0].parameters())


def nowhere_near() -> list[str]:
    KEPT["deep"] = {"down": [net()]}
    return steps(lambda x: KEPT["deep"]["down"][0](x), KEPT["deep"]["down"][0].parameters())


@pytest.mark.parametrize("program", [in_a_variable, in_a_dict, in_a_list, nowhere_near])
def test_names_within_the_model(program: Callable[[], list[str]]) -> None:
    assert program() == ["0.weight", "0.bias", "2.0.weight"]


def two_in_a_dict() -> list[str]:
    models = {"a": nn.Linear(3, 1, bias=False), "b": nn.Linear(3, 1, bias=False)}
    both = [*models["a"].parameters(), *models["b"].parameters()]
    return steps(lambda x: models["a"](x) + models["b"](x), both)


def test_each_model_of_a_dict_has_its_key() -> None:
    assert two_in_a_dict() == ["models['a'].weight", "models['b'].weight"]


def by_parameter() -> list[str]:
    weight = nn.Parameter(torch.full((2,), 12345.0))
    kept = {weight: torch.optim.SGD([weight], lr=0.1)}
    for _ in range(3):
        kept[weight].zero_grad()
        weight.sum().backward()
        kept[weight].step()
    return []


def test_no_value_becomes_a_name() -> None:
    """A dictionary may have tensors for keys: what they hold is nobody's business."""
    told = record(by_parameter)
    assert [optimizer.name for optimizer in told.optimizers] == ["kept[...]"]
    assert "12345" not in repr(told)


def frame_with(kept: dict[Any, torch.Tensor]) -> FrameType:
    return sys._getframe()


@pytest.mark.parametrize(("key", "name"), [("a", "kept['a']"), (nn.Parameter(torch.ones(2)), "kept[...]")])
def test_a_tensor_as_a_key_is_not_read(key: Any, name: str) -> None:
    value = torch.ones(1)
    assert variable(value, [frame_with({key: value})]) == name


def test_a_tensor_of_no_model_is_looked_for_once_until_something_is_put_into_a_module() -> None:
    model, loose = nn.Linear(2, 1), nn.Parameter(torch.ones(1))
    models = Models()
    models.add(model)
    assert (models.name(loose), models.name(model.weight)) == ("", "weight")
    model.scale = loose
    models.grown()
    assert models.name(loose) == "scale"


def test_nothing_refers_to_a_tensor_of_no_model_when_the_watching_is_over() -> None:
    loose = torch.ones(2, requires_grad=True)
    optimizer = torch.optim.SGD([loose], lr=0.1)
    with watch(optimizer, quiet=True):
        for _ in range(3):
            optimizer.zero_grad()
            loose.sum().backward()
            optimizer.step()
    assert weakref.getweakrefs(loose) == []
