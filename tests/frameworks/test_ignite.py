"""IgniteWatch: from the start of an engine's run to its end."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

engine = pytest.importorskip("ignite.engine")

from gradcheck_lint import watch  # noqa: E402
from gradcheck_lint.frameworks import IgniteWatch  # noqa: E402


def trained(clear: bool, *, stop: bool = False) -> watch:
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    def step(engine: Any, x: torch.Tensor) -> float:
        if clear:
            optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), x.sum(1, keepdim=True))
        loss.backward()
        optimizer.step()
        if stop and engine.state.iteration == 3:
            engine.terminate()
        return loss.item()

    trainer = engine.Engine(step)
    watching = IgniteWatch(optimizer, model=model, on_finding="ignore").attach(trainer)
    trainer.run(torch.randn(6, 8, 4), max_epochs=2)
    assert watching.run is not None
    assert watching.run.record.problems == []
    assert watch._running == []
    return watching.run


def test_right() -> None:
    run = trained(clear=True)
    assert run.findings == []
    assert run.record.optimizers[0].steps == 12


def test_wrong() -> None:
    assert [finding.code for finding in trained(clear=False).findings] == ["GL101"]


def test_a_run_that_is_stopped() -> None:
    assert trained(clear=True, stop=True).record.optimizers[0].steps == 3
