"""Which tensors a backward reaches, and what has cut a loss off."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradcheck_lint.laws.answer import MAYBE, NO, YES, Answer
from gradcheck_lint.laws.reach import (
    ENDS,
    Cut,
    Effect,
    Reached,
    bare_layer,
    cut_by,
    of_attribute,
    of_function,
    of_item,
    of_method,
    of_operator,
    reached,
    trains,
)


@pytest.mark.parametrize(
    ("met", "whole", "known", "strange", "answer"),
    [
        (True, True, True, True, YES),
        (True, False, False, True, YES),
        (False, True, True, True, NO),
        (False, True, False, True, MAYBE),  # the optimizer may have more
        (False, False, True, True, MAYBE),  # the loss may lead to more
        (False, False, True, False, YES),
    ],
)
def test_trains(met: bool, whole: bool, known: bool, strange: bool, answer: Answer) -> None:
    assert trains(met=met, whole=whole, known=known, strange=strange) is answer


LEAVES = st.frozensets(st.integers(0, 5))


@given(loss=LEAVES, held=LEAVES, seen=LEAVES, looked=LEAVES)
def test_what_a_part_shows_never_contradicts_the_whole(
    loss: frozenset[int], held: frozenset[int], seen: frozenset[int], looked: frozenset[int]
) -> None:
    """A witness that knows some of the leaves and some of what is held, against one that knows all."""
    truth = trains(met=bool(loss & held), whole=True, known=True, strange=True)
    some_of_loss, some_held = loss & seen, held & looked
    said = trains(met=bool(some_of_loss & some_held), whole=some_of_loss == loss, known=some_held == held, strange=True)
    assert said in (truth, MAYBE)


def test_reached() -> None:
    for wanted, fed, flat, zero in product((False, True), repeat=4):
        found = reached(wanted=wanted, fed=fed, flat=flat, zero=zero)
        if not wanted:
            assert found is Reached.UNWANTED
        elif not fed:
            assert found is Reached.NEVER
        else:
            assert found is (Reached.FLAT if flat and zero else Reached.FED)


@pytest.mark.parametrize(
    ("off", "inference", "decorated", "nearby", "cut"),
    [
        (True, True, True, True, Cut.OFF),
        (False, True, True, True, Cut.INFERENCE),
        (False, False, True, True, Cut.DECORATED),
        (False, False, False, True, Cut.DETACHED),
        (False, False, False, False, Cut.NOTHING),
    ],
)
def test_the_nearest_cause_has_cut_it_off(off: bool, inference: bool, decorated: bool, nearby: bool, cut: Cut) -> None:
    assert cut_by(off=off, inference=inference, decorated=decorated, nearby=nearby) is cut


@pytest.mark.parametrize(
    "name",
    [
        *("abs", "exp", "mean", "sum", "round", "floor", "ceil", "trunc", "sign", "detach", "item", "tolist"),
        *("argmax", "argmin", "long", "int", "bool", "isnan", "clone", "t", "view_as", "square", "sort", "relu"),
    ],
)
def test_what_methods_do_is_what_torch_does(name: str) -> None:
    torch = pytest.importorskip("torch")
    leaf = torch.full((1, 1), 0.3, requires_grad=True)
    result = getattr(leaf * 2, name)(*([leaf] if name == "view_as" else []))
    first = result[0] if isinstance(result, tuple) else result
    if not isinstance(first, torch.Tensor) or not first.requires_grad:
        assert of_method(name) in ENDS
        return
    first.sum().backward()
    flat = not leaf.grad.any()
    assert of_method(name) is (Effect.FLAT if flat else Effect.THROUGH)


@pytest.mark.parametrize(
    ("name", "effect"),
    [
        ("torch.nn.functional.cross_entropy", Effect.THROUGH),
        ("torch.nn.functional.one_hot", Effect.NEW),
        ("torch.zeros_like", Effect.NEW),
        ("torch.tensor", Effect.CUT),
        ("torch.argmax", Effect.DISCRETE),
        ("torch.round", Effect.FLAT),
        ("numpy.square", Effect.CUT),
        ("builtins.float", Effect.CUT),
        ("builtins.sum", Effect.THROUGH),
        ("os.path.join", Effect.NEW),
        ("somewhere.else", Effect.UNKNOWN),
        ("torch.*", Effect.UNKNOWN),
    ],
)
def test_what_functions_do(name: str, effect: Effect) -> None:
    assert of_function(name) is effect


def test_what_operators_attributes_and_items_do() -> None:
    assert of_operator("+") is Effect.THROUGH
    assert of_operator("<") is of_operator("is") is Effect.DISCRETE
    assert of_attribute("data") is Effect.CUT
    assert of_attribute("shape") is Effect.NEW
    assert of_attribute("logits") is Effect.UNKNOWN
    assert of_item("torch.max", "1") is of_item("topk", "indices") is Effect.DISCRETE
    assert of_item("torch.max", "0") is of_item("chunk", "1") is Effect.THROUGH


def test_layers_without_parameters() -> None:
    nn = pytest.importorskip("torch.nn")
    for name in dir(nn):
        if bare_layer(name):
            made = getattr(nn, name)
            try:
                layer = made()
            except TypeError:
                continue
            assert not list(layer.parameters()), name
    assert not bare_layer("Linear")
    assert not bare_layer("AdaptiveLogSoftmaxWithLoss")
