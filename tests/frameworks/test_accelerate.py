"""Accelerate: the optimizer that it wraps is watched, its accumulation understood, and what goes past it found."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

accelerate = pytest.importorskip("accelerate")

from gradcheck_lint import watch  # noqa: E402
from gradcheck_lint.errors import ConfigError  # noqa: E402
from gradcheck_lint.frameworks import AccelerateWatch  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
OPTIONS: dict[str, Any] = {"on_finding": "ignore", "min_confidence": "medium"}


@pytest.fixture(autouse=True)
def _alone() -> Iterator[None]:
    """Each test has Accelerators of its own."""
    torch.manual_seed(0)
    accelerate.state.AcceleratorState._reset_state(True)
    accelerate.state.GradientState._reset_state()
    yield
    accelerate.state.AcceleratorState._reset_state(True)
    accelerate.state.GradientState._reset_state()


def parts(**options: Any) -> tuple[Any, ...]:
    accelerator = accelerate.Accelerator(cpu=True, **options)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    loader = torch.utils.data.DataLoader(torch.randn(46, 4), batch_size=4)
    return accelerator, *accelerator.prepare(model, optimizer, loader)


def loss_of(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return nn.functional.mse_loss(model(x), x.sum(1, keepdim=True))


@pytest.mark.parametrize("options", [{}, {"gradient_accumulation_steps": 4}, {"mixed_precision": "bf16"}], ids=str)
def test_right(options: dict[str, Any]) -> None:
    accelerator, model, optimizer, loader = parts(**options)
    with AccelerateWatch(accelerator, **OPTIONS) as run:
        for _ in range(2):
            for x in loader:
                with accelerator.accumulate(model):
                    accelerator.backward(loss_of(model, x))
                    if accelerator.sync_gradients:
                        accelerator.clip_grad_norm_(model.parameters(), 1.0)
                    optimizer.step()
                    optimizer.zero_grad()
    assert [(finding.code, finding.label) for finding in run.findings] == []
    assert run.record.problems == []
    (watched,) = run.record.optimizers
    assert (watched.kind, watched.steps) == ("SGD", 6 if "gradient_accumulation_steps" in options else 24)


def test_a_plain_backward_is_right_where_nothing_is_accumulated() -> None:
    _, model, optimizer, loader = parts()
    with watch(optimizer, **OPTIONS) as run:
        for x in loader:
            optimizer.zero_grad()
            loss_of(model, x).backward()
            optimizer.step()
    assert run.findings == []


def test_a_plain_backward_of_a_divided_loss_is_right() -> None:
    accelerator, model, optimizer, loader = parts(gradient_accumulation_steps=4)
    with watch(optimizer, **OPTIONS) as run:
        for x in loader:
            with accelerator.accumulate(model):
                loss = loss_of(model, x) / accelerator.gradient_accumulation_steps
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
    assert run.findings == []


def test_plain_backward() -> None:
    accelerator, model, optimizer, loader = parts(gradient_accumulation_steps=4)
    with AccelerateWatch(accelerator, **OPTIONS) as run:
        for x in loader:
            with accelerator.accumulate(model):
                loss = loss_of(model, x)
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
    assert [(finding.code, finding.confidence.name) for finding in run.findings] == [("GL605", "HIGH")]
    assert run.findings[0].help == "call `accelerator.backward(loss)`"


def test_an_optimizer_that_was_not_prepared() -> None:
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=4)
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    model, loader = accelerator.prepare(model, torch.utils.data.DataLoader(torch.randn(48, 4), batch_size=4))
    with watch(optimizer, **OPTIONS) as run:
        for x in loader:
            with accelerator.accumulate(model):
                accelerator.backward(loss_of(model, x))
                optimizer.step()
                optimizer.zero_grad()
    assert [(finding.code, finding.confidence.name) for finding in run.findings] == [("GL605", "HIGH")]


def test_an_accelerator_that_has_prepared_nothing() -> None:
    with pytest.raises(ConfigError, match="prepare"):
        AccelerateWatch(accelerate.Accelerator(cpu=True))
