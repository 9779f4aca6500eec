"""Walking a graph, the terms of a sum, and the canaries that tell whether a graph is still there."""

from __future__ import annotations

import gc

import torch
from torch import nn

from gradcheck_lint.runtime.graph import Canaries, marked, only_sums, reach, terms


class Double(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):  # type: ignore[no-untyped-def]
        return 2 * x

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def, override]
        return 2 * grad


def loss_of(model: nn.Module) -> torch.Tensor:
    return model(torch.ones(2, 3)).pow(2).mean()


def test_reach_finds_each_leaf_once_and_the_functions() -> None:
    model = nn.Linear(3, 1)
    hidden = model(torch.ones(2, 3))
    loss = Double.apply(hidden).sum() + hidden.sum()
    reached = reach([loss])
    assert {id(leaf) for leaf in reached.leaves} == {id(p) for p in model.parameters()}
    assert len(reached.leaves) == 2
    assert [type(node)._forward_cls for node in reached.functions] == [Double]
    assert reached.whole


def test_reach_of_a_leaf_is_itself() -> None:
    leaf = torch.ones(2, requires_grad=True)
    assert reach([leaf]).leaves == (leaf,)
    assert reach([torch.ones(2)]).leaves == ()


def test_an_attribute_of_ctx_is_no_leaf() -> None:
    class Keeps(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):  # type: ignore[no-untyped-def]
            ctx.variable = 3
            return 2 * x

        @staticmethod
        def backward(ctx, grad):  # type: ignore[no-untyped-def, override]
            return 2 * grad

    leaf = torch.ones(2, requires_grad=True)
    assert [id(found) for found in reach([Keeps.apply(leaf).sum()]).leaves] == [id(leaf)]


def test_terms_are_the_numbers_of_a_sum() -> None:
    model = nn.Linear(3, 1)
    first, second, third = loss_of(model), loss_of(model), loss_of(model)
    total = (first + 0.5 * second - third) / 3
    nodes = terms(total)
    assert {first.grad_fn, second.grad_fn, third.grad_fn, total.grad_fn} <= set(nodes)
    stacked = terms(torch.stack([first, second]).mean())
    assert {first.grad_fn, second.grad_fn} <= set(stacked)


def test_terms_are_no_parameters_and_no_tensors_of_more_than_one_number() -> None:
    model = nn.Linear(3, 1)
    spread = nn.Parameter(torch.zeros(()))
    loss = loss_of(model) + spread
    names = [type(node).__name__ for node in terms(loss)]
    assert names == ["AddBackward0", "MeanBackward0"]
    wide = model(torch.ones(4, 3)) + model(torch.zeros(4, 3))
    assert [type(node).__name__ for node in terms(wide.sum())] == ["SumBackward0"]


def test_only_sums() -> None:
    numbers = torch.ones(3, requires_grad=True)
    assert only_sums(numbers.sum() / 2) == (numbers,)
    assert only_sums(numbers.pow(2).sum()) == ()
    assert only_sums((numbers * numbers).sum()) == ()
    assert only_sums(loss_of(nn.Linear(3, 1))) == ()


def test_a_canary_lives_as_long_as_the_graph() -> None:
    canaries, model = Canaries(), nn.Linear(3, 1)
    kept = []
    for step in range(5):
        loss = loss_of(model)
        assert canaries.mark(loss, step + 1, (step,), freed=True) is None
        loss.backward()
        kept.append(loss)
    assert canaries.kept((5,)) == [(4,), (3,), (2,), (1,), (0,)]
    assert canaries.kept((4,)) == [(3,), (2,), (1,), (0,)]  # the newest does not count
    kept[:3] = []
    gc.collect()
    assert canaries.kept((5,)) == [(4,), (3,)]
    kept.clear()
    del loss
    assert canaries.kept((5,)) == []


def test_a_sum_keeps_its_canaries() -> None:
    canaries, model = Canaries(), nn.Linear(3, 1)
    total = torch.zeros(())
    for step in range(5):
        loss = loss_of(model)
        canaries.mark(loss, step + 1, (step,), freed=True)
        loss.backward()
        total = total + loss
    del loss
    assert len(canaries.kept((5,))) == 5


def test_graphs_that_are_kept_for_another_backward_do_not_count() -> None:
    canaries, model = Canaries(), nn.Linear(3, 1)
    kept = [loss_of(model) for _ in range(3)]
    for step, loss in enumerate(kept):
        canaries.mark(loss, step + 1, (step,), freed=False)
    assert canaries.kept((5,)) == []


def test_an_earlier_loss_is_found_in_a_sum() -> None:
    canaries, model = Canaries(), nn.Linear(3, 1)
    first = loss_of(model)
    canaries.mark(first, 1, (0,), freed=False)
    total = (first + loss_of(model)) / 2
    earlier = canaries.mark(total, 2, (1,), freed=False)
    assert earlier is not None
    assert (earlier.number, earlier.steps) == (1, (0,))
    assert earlier is not marked(total.grad_fn)


def test_canaries_of_a_watch_that_is_over_count_for_nothing() -> None:
    model = nn.Linear(3, 1)
    loss = loss_of(model)
    before = Canaries()
    before.mark(loss, 1, (0,), freed=False)
    before.clear()
    assert marked(loss.grad_fn) is None
    after = Canaries()
    assert after.mark(loss, 1, (0,), freed=True) is None
    assert marked(loss.grad_fn) is not None
