"""What an autograd Function takes, keeps and gives back."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from gradcheck_lint.facts.classes import ClassFacts
from gradcheck_lint.facts.functions import FunctionFacts
from gradcheck_lint.rule import Rule
from gradcheck_lint.source.engine import analyse
from gradcheck_lint.source.file import SourceFile

HEAD = """
import torch

class F(torch.autograd.Function):
    @staticmethod
    def forward({parameters}):
        {forward}

    @staticmethod
    def backward(ctx, grad):
"""


class _Asks(Rule):
    code = "XX001"
    slug = "asks"
    triggers = r"\bdef backward\("

    def __init__(self) -> None:
        self.found: list[FunctionFacts] = []

    def on_class(self, facts: ClassFacts, report: object) -> None:
        found = FunctionFacts.of(facts)
        if found is not None:
            # asked here, where code may still be read
            found.without_gradient(), found.differentiable(), found.unread(), list(found.kept()), found.mismatch()
            self.found.append(found)


def _function(backward: str, parameters: str = "ctx, x, y", forward: str = "return x * y") -> FunctionFacts:
    rule = _Asks()
    code = HEAD.format(parameters=parameters, forward=forward)
    code += "".join(f"        {line}\n" for line in dedent(backward).strip().splitlines())
    analyse([SourceFile("train.py", Path("nowhere/train.py"), code.encode())], [rule])
    (found,) = rule.found
    return found


@pytest.mark.parametrize(
    ("backward", "counts"),
    [
        pytest.param("return grad, None", [2], id="a tuple"),
        pytest.param("both = (grad, grad)\nreturn both", [2], id="a tuple with a name"),
        pytest.param("return grad * ctx.y", [1], id="one tensor"),
        pytest.param("g = grad.clone()\ng[g < 0] = 0\nreturn g", [1], id="one tensor with a name"),
        pytest.param("return helper(grad)", [], id="a call may give a tuple"),
        pytest.param("return tuple(grad for _ in range(2))", [], id="a tuple that is made"),
        pytest.param("return grad, *rest", [], id="with a star"),
        pytest.param("if ctx.done:\n    return None\nreturn grad, grad", [2], id="None is nobody's number"),
    ],
)
def test_gradients_are_counted(backward: str, counts: list[int]) -> None:
    assert [len(given.gradients) for given in _function(backward).given] == counts


@pytest.mark.parametrize(
    ("parameters", "required", "most"),
    [
        ("ctx, x, y", 2, 2),
        ("ctx, x, y=1", 1, 2),
        ("ctx, x, *rest", 1, None),
    ],
)
def test_inputs_are_counted(parameters: str, required: int, most: int | None) -> None:
    found = _function("return grad", parameters)
    assert (found.required, found.most) == (required, most)


@pytest.mark.parametrize(
    ("backward", "missing"),
    [
        ("return grad, None", [1]),
        ("g = None\nreturn grad, g", [1]),
        ("g = None\nif ctx.needs_input_grad[1]:\n    g = grad\nreturn grad, g", []),
        ("if ctx.done:\n    return grad, grad\nreturn grad, None", []),
        ("if ctx.done:\n    return helper(grad)\nreturn grad, None", []),
    ],
)
def test_none_on_every_path(backward: str, missing: list[int]) -> None:
    assert _function(backward).without_gradient() == missing


@pytest.mark.parametrize(
    ("backward", "ignored"),
    [
        ("(a,) = ctx.saved_tensors\nreturn a, None", True),
        ("(a,) = ctx.saved_tensors\nreturn a * grad, None", False),
        ("(a,) = ctx.saved_tensors\nreturn helper(a, lambda v: v * grad), None", False),
        ("return torch.zeros_like(ctx.x), None", False),
        ("return None, None", False),
        ("grad = ctx.x\nreturn grad, None", False),
    ],
)
def test_what_comes_in_is_read(backward: str, ignored: bool) -> None:
    assert (_function(backward).unread() is not None) == ignored


@pytest.mark.parametrize(
    ("forward", "output"),
    [
        ("ctx.out = x * y; return ctx.out", [True]),
        ("out = x * y; ctx.out = out; return out", [True]),
        ("out = x * y; ctx.out = out; ctx.mark_non_differentiable(out); return out", []),
        ("out = x * y; ctx.out = out.detach(); return out", []),
        ("ctx.x = x; return x * y", [False]),
        ("ctx.shape = x.shape; return x * y", []),
        ("ctx.y = y; return x * y", []),
    ],
)
def test_kept_on_the_context(forward: str, output: list[bool]) -> None:
    found = _function("return grad, None", forward=forward)
    assert [is_output for _, is_output in found.kept()] == output


@pytest.mark.parametrize(
    ("forward", "backward", "numbers"),
    [
        ("ctx.save_for_backward(x); return x", "x, y = ctx.saved_tensors\nreturn grad, grad", (2, 1)),
        ("ctx.save_for_backward(x, y); return x", "x, y = ctx.saved_tensors\nreturn grad, grad", None),
        ("ctx.save_for_backward(*x); return x", "x, y = ctx.saved_tensors\nreturn grad, grad", None),
        ("ctx.save_for_backward(x); keep(ctx); return x", "x, y = ctx.saved_tensors\nreturn grad, grad", None),
        ("ctx.save_for_backward(x); return x", "x, *y = ctx.saved_tensors\nreturn grad, grad", None),
    ],
)
def test_saved_tensors(forward: str, backward: str, numbers: tuple[int, int] | None) -> None:
    found = _function(backward, forward=forward).mismatch()
    assert (found[1:] if found is not None else None) == numbers
