"""The user's own autograd Functions: refused, kept on ctx, wrong; and those that are wrong on purpose."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
import watching
from torch import nn

from gradcheck_lint.finding import Confidence, Finding
from gradcheck_lint.runtime.checks.reach.functions import examine
from gradcheck_lint.runtime.session import Options, Session

RULES = watching.rules("GL602", "GL604")


class Halved(torch.autograd.Function):
    """Its backward forgets a factor."""

    calls = 0

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        Halved.calls += 1
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        (x,) = ctx.saved_tensors
        return grad * x


class Right(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        return x @ weight.T

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        x, weight = ctx.saved_tensors
        return grad @ weight, grad.T @ x


class Round(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.round()

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return grad


class Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return -grad


class Noisy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.mask = torch.rand_like(x) > 0.5
        return x * ctx.mask

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return grad * ctx.mask  # type: ignore[no-any-return]


class Single(torch.autograd.Function):
    """Works in single precision only."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        assert x.dtype == torch.float32
        return 2 * x

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return grad


class Kept(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.output = x.exp()
        ctx.shape = x.shape
        return ctx.output  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return grad * ctx.output  # type: ignore[no-any-return]


class TooFew(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, factor: float) -> torch.Tensor:
        return x * factor

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return grad


def watched(function: Any, *more: Any, level: str = "deep", steps: int = 3) -> tuple[list[Finding], torch.Tensor]:
    models = []

    def program() -> None:
        model = nn.Linear(3, 4)
        models.append(model)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        for _ in range(steps):
            optimizer.zero_grad()
            function.apply(model(torch.randn(5, 3)), *more).pow(2).mean().backward()
            optimizer.step()

    findings = watching.found(program, rules=RULES, level=level, least=Confidence.MEDIUM)
    return findings, models[0].weight.detach().clone()


def test_a_wrong_gradient_is_found_once_and_says_the_numbers() -> None:
    findings, _ = watched(Halved)
    assert [(finding.code, finding.confidence) for finding in findings] == [("GL604", Confidence.HIGH)]
    assert "`Halved.backward` says" in findings[0].label
    assert "of `x`" in findings[0].label
    assert findings[0].step == 1


def test_gradients_are_tested_on_the_deep_level_alone_and_once() -> None:
    Halved.calls = 0
    assert watched(Halved, level="default")[0] == []
    assert Halved.calls == 3
    assert watched(Halved)[0] != []
    once = Halved.calls
    assert once > 6
    watched(Halved, steps=4)
    assert Halved.calls == 2 * once - 3 + 1


@pytest.mark.parametrize(
    ("function", "more"),
    [(Right, (torch.ones(2, 4, requires_grad=True),)), (Round, ()), (Reverse, ()), (Noisy, ()), (Single, ())],
    ids=["right", "straight through", "handed on", "of chance", "single precision"],
)
def test_functions_that_are_right_or_meant_so(function: Any, more: tuple[Any, ...]) -> None:
    assert watched(function, *more)[0] == []


def test_the_program_keeps_its_numbers_and_its_random_state() -> None:
    plain = watched(Noisy, level="default")[1], torch.get_rng_state(), random.getstate()
    deep = watched(Noisy, level="deep")[1], torch.get_rng_state(), random.getstate()
    assert torch.equal(plain[0], deep[0])
    assert torch.equal(plain[1], deep[1])
    assert plain[2] == deep[2]


def test_apply_is_torchs_own_again() -> None:
    before = vars(torch.autograd.Function)["apply"]
    watched(Halved)
    assert vars(torch.autograd.Function)["apply"] is before


def test_an_input_without_its_gradient_is_of_medium_confidence() -> None:
    class Forgets(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
            ctx.save_for_backward(weight)
            return x * weight

        @staticmethod
        def backward(ctx: Any, grad: torch.Tensor) -> Any:
            return grad * ctx.saved_tensors[0], None

    (finding,) = watched(Forgets, torch.full((4,), 2.0, requires_grad=True))[0]
    assert (finding.code, finding.confidence) == ("GL604", Confidence.MEDIUM)
    assert "returns None for `weight`" in finding.label


def test_an_output_on_ctx() -> None:
    (finding,) = watched(Kept, level="default")[0]
    assert (finding.code, finding.confidence) == ("GL602", Confidence.HIGH)
    assert "`ctx.output`" in finding.label


def test_a_wrong_number_of_gradients_passes_through_and_is_explained() -> None:
    findings: list[Finding] = []
    session = Session(RULES, Options(everything=True), findings.append)
    session.start()
    try:
        model = nn.Linear(3, 4)
        torch.optim.SGD(model.parameters(), lr=0.01)
        with pytest.raises(RuntimeError, match="incorrect number of gradients"):
            TooFew.apply(model(torch.randn(5, 3)), 2.0).sum().backward()
    finally:
        session.stop()
    assert [finding.code for finding in findings] == ["GL602"]
    assert "`TooFew.backward` returns 1 gradient for 2 inputs" in findings[0].label


def test_examine_leaves_flat_elements_and_kinks_alone() -> None:
    class Clip(torch.autograd.Function):
        """Lets gradients through where it is flat."""

        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x.clamp(-1, 1)

        @staticmethod
        def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
            return grad

    x = torch.tensor([-2.0, -1.0, 0.5, 3.0], dtype=torch.float64, requires_grad=True)
    assert examine(Clip.apply, (x,)) == []
    wrong = examine(Halved.apply, (x,))
    assert [one.argument for one in wrong] == [0] * 4
    assert all(abs(one.true - 2 * one.told) < 1e-3 for one in wrong)
