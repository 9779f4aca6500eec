"""Which gradients a backward has touched, and what they held before: seen without a hook on the parameters."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from gradcheck_lint.runtime.gradients import Gradients, Touched


def pair() -> list[Tensor]:
    return [nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2))]


def backward(gradients: Gradients, parameters: list[Tensor], loss: Tensor, **options: bool) -> Touched | None:
    gradients.backward_begins(parameters, used=options.pop("used", False))
    loss.backward(**options)  # type: ignore[no-untyped-call]
    return gradients.backward_ended(parameters)


def after_a_step(gradients: Gradients, parameters: list[Tensor]) -> None:
    assert backward(gradients, parameters, sum(p.sum() for p in parameters)) is not None  # type: ignore[arg-type]
    gradients.used()
    gradients.remember(parameters)


def test_the_first_backward() -> None:
    gradients, parameters = Gradients(), pair()
    touched = backward(gradients, parameters, parameters[1].sum())
    assert touched == Touched([1], empty=True, old=False, zero=False, dropped=False)
    assert list(gradients.received) == [id(parameters[1])]


def test_what_is_added_to_is_touched_and_nothing_else() -> None:
    gradients, parameters = Gradients(), pair()
    assert backward(gradients, parameters, parameters[0].sum() + parameters[1].sum()) is not None
    touched = backward(gradients, parameters, parameters[0].sum())
    assert touched is not None
    assert touched.where == [0]


def test_backward_elsewhere_touches_nothing() -> None:
    gradients, parameters = Gradients(), pair()
    assert backward(gradients, parameters, torch.ones(2, requires_grad=True).sum()) is None
    assert not gradients.received


@pytest.mark.filterwarnings("ignore:Using backward")
def test_a_gradient_with_a_graph_of_its_own_is_another_tensor() -> None:
    gradients, parameters = Gradients(), pair()
    for _ in range(8):  # the old one is gone by then, and its place in memory may be used again
        touched = backward(gradients, parameters, (parameters[0] ** 2).sum(), create_graph=True)
        assert touched is not None
        assert touched.where == [0]


def test_sparse_gradients_are_other_tensors() -> None:
    layer = nn.Embedding(5, 2, sparse=True)
    gradients, parameters = Gradients(), list(layer.parameters())
    for _ in range(4):
        assert backward(gradients, parameters, layer(torch.tensor([1, 3])).sum()) is not None


def kept(parameters: list[Tensor]) -> None:
    pass


def set_to_none(parameters: list[Tensor]) -> None:
    for p in parameters:
        p.grad = None


def set_to_zero(parameters: list[Tensor]) -> None:
    for p in parameters:
        assert p.grad is not None
        p.grad.data.zero_()


def replaced(parameters: list[Tensor]) -> None:
    for p in parameters:
        p.grad = torch.zeros_like(p)


@pytest.mark.parametrize(
    ("between", "empty", "old", "zero"),
    [
        (kept, False, True, False),
        (set_to_none, True, False, False),
        (set_to_zero, False, False, True),
        (replaced, True, False, False),
    ],
)
def test_what_a_step_had_left(between: Callable[[list[Tensor]], None], empty: bool, old: bool, zero: bool) -> None:
    gradients, parameters = Gradients(), pair()
    after_a_step(gradients, parameters)
    between(parameters)
    touched = backward(gradients, parameters, parameters[0].sum() + parameters[1].sum(), used=True)
    assert touched is not None
    assert (touched.empty, touched.old, touched.zero) == (empty, old, zero)


def test_what_was_made_for_the_step_to_come_is_taken_away() -> None:
    gradients, parameters = Gradients(), pair()
    for dropped in (False, True):
        touched = backward(gradients, parameters, parameters[0].sum())
        assert touched is not None
        assert touched.dropped is dropped
        set_to_none(parameters)


def test_a_hook_of_the_program_that_takes_gradients_away_while_backward_runs() -> None:
    gradients, parameters = Gradients(), pair()
    handle = parameters[0].register_post_accumulate_grad_hook(lambda p: setattr(p, "grad", None))  # type: ignore[no-untyped-call]
    touched = backward(gradients, parameters, parameters[0].sum())
    assert touched is not None
    assert touched.where == [0]
    gradients.unhook()
    assert list(parameters[0]._post_accumulate_grad_hooks) == [handle.id]


def test_gradients_written_by_hand() -> None:
    gradients, parameters = Gradients(), pair()
    after_a_step(gradients, parameters)
    assert not gradients.written(parameters)
    parameters[0].grad = torch.full((3,), 2.0)
    assert gradients.written(parameters)


def test_the_order_in_which_they_came() -> None:
    gradients, parameters = Gradients(), pair()
    gradients.backward_begins(parameters, used=False)
    (parameters[0].sum() + parameters[1].sum()).backward()  # type: ignore[no-untyped-call]
    gradients.backward_ended(parameters, [parameters[0], parameters[1]])
    assert list(gradients.received) == [id(p) for p in parameters]


def test_touched_or_not_since_backward() -> None:
    gradients, parameters = Gradients(), pair()
    assert backward(gradients, parameters, (parameters[0] ** 2).sum()) is not None
    gradients.probe(parameters)
    assert gradients.untouched(parameters)
    assert parameters[0].grad is not None
    parameters[0].grad.mul_(2)
    assert not gradients.untouched(parameters)
