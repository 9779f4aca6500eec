"""torch.compile: watching adds no graph break, no graph and no recompilation, and what is compiled trains the same."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

pytest.importorskip("torch._dynamo")

from gradcheck_lint import watch
from gradcheck_lint.runtime.record import Watched

pytestmark = pytest.mark.filterwarnings("ignore")
STEPS = 54  # past the steps that are checked at first, through the sleep, and awake again


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


class Parts:
    """A model and its optimizer, the same each time."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9)

    def loss(self, call: Any, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.mse_loss(call(x), x.sum(1, keepdim=True))

    def data(self) -> Iterator[torch.Tensor]:
        for _ in range(STEPS):
            yield torch.randn(8, 4)


def compiled_model(parts: Parts, backend: str) -> None:
    model = torch.compile(parts.model, backend=backend)
    for x in parts.data():
        parts.optimizer.zero_grad()
        parts.loss(model, x).backward()
        parts.optimizer.step()


def compiled_loss(parts: Parts, backend: str) -> None:
    loss = torch.compile(lambda x: parts.loss(parts.model, x), backend=backend)
    for x in parts.data():
        loss(x).backward()
        parts.optimizer.step()
        parts.optimizer.zero_grad()


def compiled_step(parts: Parts, backend: str) -> None:
    step = torch.compile(lambda: parts.optimizer.step(), backend=backend)
    for x in parts.data():
        parts.optimizer.zero_grad(set_to_none=False)
        parts.loss(parts.model, x).backward()
        step()


def compiled_round(parts: Parts, backend: str) -> None:
    def round_(x: torch.Tensor) -> None:
        parts.optimizer.zero_grad()
        parts.loss(parts.model, x).backward()
        nn.utils.clip_grad_norm_(parts.model.parameters(), 1.0)
        parts.optimizer.step()

    compiled = torch.compile(round_, backend=backend)
    for x in parts.data():
        compiled(x)


def compiled_autocast(parts: Parts, backend: str) -> None:
    def loss(x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            hidden = parts.model[0](x)
            torch._dynamo.graph_break()
            return parts.loss(lambda x: parts.model[2](hidden.tanh()).float(), x)

    compiled = torch.compile(loss, backend=backend)
    for x in parts.data():
        parts.optimizer.zero_grad()
        compiled(x).backward()
        parts.optimizer.step()


PROGRAMS = [
    (compiled_model, "eager"),
    (compiled_model, "aot_eager"),
    (compiled_loss, "aot_eager"),
    (compiled_step, "eager"),
    (compiled_round, "eager"),
    (compiled_autocast, "eager"),
    pytest.param(
        compiled_model, "inductor", marks=pytest.mark.skipif(shutil.which("g++") is None, reason="needs a compiler")
    ),
]


def counted(
    program: Callable[[Parts, str], None], backend: str, watched: str
) -> tuple[dict[str, int], list[torch.Tensor]]:
    """What dynamo has counted, and the weights."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    parts = Parts()
    if watched == "no":
        program(parts, backend)
    else:
        optimizers = (parts.optimizer,) if watched == "optimizer" else ()
        with watch(*optimizers, on_finding="ignore", every=50) as run:
            program(parts, backend)
        assert run.record.problems == []
        assert [(finding.code, finding.label) for finding in run.findings] == []
    counters = torch._dynamo.utils.counters
    numbers = {
        "graphs": counters["stats"]["unique_graphs"],
        "captured": counters["stats"]["calls_captured"],
        "breaks": sum(counters["graph_break"].values()),
        "recompiles": sum(counters["recompiles"].values()),
    }
    return numbers, [parameter.detach().clone() for parameter in parts.model.parameters()]


@pytest.mark.parametrize(("program", "backend"), PROGRAMS, ids=lambda value: getattr(value, "__name__", value))
def test_nothing_is_added(program: Callable[[Parts, str], None], backend: str) -> None:
    plain, weights = counted(program, backend, "no")
    assert plain["graphs"] > 0
    numbers, same = counted(program, backend, "optimizer")
    assert numbers == plain
    assert all(torch.equal(one, other) for one, other in zip(weights, same, strict=True))


def test_watching_begins_and_ends_in_the_middle() -> None:
    """Hooks that come and go on parameters of a compiled model make nothing be compiled again."""

    def trained(*, watched: bool) -> dict[str, int]:
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        parts = Parts()
        model = torch.compile(parts.model, backend="aot_eager")

        def some() -> None:
            for _ in range(4):
                parts.optimizer.zero_grad()
                parts.loss(model, torch.randn(8, 4)).backward()
                parts.optimizer.step()

        some()
        if watched:
            with watch(parts.optimizer, model=model, on_finding="ignore") as run:
                some()
            assert (run.findings, run.record.problems) == ([], [])
        else:
            some()
        some()
        return dict(torch._dynamo.utils.counters["stats"])

    assert trained(watched=True) == trained(watched=False)


def test_mistakes_are_found_all_the_same() -> None:
    parts = Parts()
    model = torch.compile(parts.model, backend="eager")
    with watch(parts.optimizer, on_finding="ignore") as run:
        for _ in range(3):
            parts.loss(model, torch.randn(8, 4)).backward()
            parts.optimizer.step()
    assert [finding.code for finding in run.findings] == ["GL101"]
    (optimizer,) = run.record.optimizers
    assert [parameter.name for parameter in optimizer.parameters][:2] == ["0.weight", "0.bias"]


def hooks_are_called(optimizer: Watched, steps: int = STEPS) -> bool:
    """From Python 3.13 on dynamo calls the hooks of a step that it compiles, and the watcher sees it as any other."""
    if sys.version_info < (3, 13):
        return False
    assert optimizer.steps == steps
    assert optimizer.blind == ()
    return True


def test_a_step_that_is_compiled_is_said_to_be_unseen() -> None:
    parts = Parts()
    with watch(parts.optimizer, on_finding="ignore") as run:
        compiled_step(parts, "eager")
    assert run.findings == []
    (optimizer,) = run.record.optimizers
    if hooks_are_called(optimizer):
        return
    assert optimizer.blind == (
        "its step is compiled, so its steps were not counted and the order of its calls was not judged",
    )
    assert run.summary().splitlines()[:2] == [
        f"Nothing to judge: no step was seen in the run of {Path(sys.argv[0]).name}.",
        "  watched: parts.optimizer (SGD, 4 parameters): no step was seen",
    ]


def test_steps_that_were_seen_are_not_denied() -> None:
    parts = Parts()
    with watch(parts.optimizer, on_finding="ignore", every=50) as run:
        compiled_model(parts, "eager")
        compiled_step(parts, "eager")
    (optimizer,) = run.record.optimizers
    assert optimizer.steps >= STEPS
    if hooks_are_called(optimizer, 2 * STEPS):
        return
    assert optimizer.blind == ("its step is compiled, so the order of its calls was not judged",)
