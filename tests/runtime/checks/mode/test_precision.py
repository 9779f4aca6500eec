"""Autocast that does not reach the layers, and the many ways in which float32 is right."""

from __future__ import annotations

import copy
import gc
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import watching
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - as everybody calls it

from gradcheck_lint.finding import Confidence
from gradcheck_lint.runtime import regions
from gradcheck_lint.runtime.checks.mode import precision

RULES = watching.rules("GL510")
found = partial(watching.found, rules=RULES)
TELLS = hasattr(torch.ones(1, requires_grad=True).sum().grad_fn, "_input_metadata")
pytestmark = pytest.mark.skipif(not TELLS, reason="the graph of this torch does not tell dtypes")

Loss = Callable[[Tensor, Tensor], Tensor]


def half(*, enabled: bool = True) -> torch.autocast:
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled)


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))


def train(loss: Loss, *models: nn.Module, scaled: bool = False) -> None:
    optimizer = torch.optim.SGD([p for model in models for p in model.parameters()], lr=0.01)
    scaler = torch.amp.GradScaler("cpu", enabled=scaled)
    for _ in range(3):
        optimizer.zero_grad()
        scaler.scale(loss(torch.randn(16, 8), torch.randint(3, (16,)))).backward()
        scaler.step(optimizer)
        scaler.update()


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What tests before have left in the process is no network of this one."""
    left = [p for thing in gc.get_objects() if issubclass(type(thing), nn.Module) for p in thing._parameters.values()]
    before = {id(parameter) for parameter in left if parameter is not None}
    strangers = precision._strangers
    # the default keeps them, so that no other tensor gets their ids
    monkeypatch.setattr(precision, "_strangers", lambda known, left=left: strangers(known | before))


# Lost


def loss_alone_in_the_block() -> None:
    model = net()

    def loss(x: Tensor, y: Tensor) -> Tensor:
        out = model(x)
        with half():
            return F.cross_entropy(out, y)

    train(loss, model, scaled=True)


def in_another_thread() -> None:
    model = net()

    def loss(x: Tensor, y: Tensor) -> Tensor:
        made: list[Tensor] = []
        with half():
            thread = threading.Thread(target=lambda: made.append(model(x)))
            thread.start()
            thread.join()
            return F.cross_entropy(made[0], y)

    train(loss, model, scaled=True)


def for_another_device() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 3))

    def loss(x: Tensor, y: Tensor) -> Tensor:
        with torch.autocast("xpu", dtype=torch.bfloat16):
            return F.cross_entropy(model(x[:, None, :].reshape(-1, 1, 4, 2).repeat(1, 1, 1, 2)), y)

    train(loss, model)


def past_the_forward_beside_a_block() -> None:
    model = net()
    model.forward = half()(model.forward)

    def loss(x: Tensor, y: Tensor) -> Tensor:
        with half():
            model(x)
        return F.cross_entropy(model[2](model[1](model[0](x))), y)

    train(loss, model)


def past_the_forward() -> None:
    model = net()
    model.forward = half()(model.forward)
    train(lambda x, y: F.cross_entropy(model[2](model[1](model[0](x))), y), model)


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (loss_alone_in_the_block, "0.weight and 2.weight ran outside of this block"),
        (in_another_thread, "this block"),
        (for_another_device, "0.weight and 2.weight ran on cpu, and this block is for xpu"),
        (past_the_forward_beside_a_block, "called past the model's `forward`"),
        (past_the_forward, "called past the model's `forward`"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_lost(program: Callable[[], object], words: str) -> None:
    (finding,) = found(program)
    assert (finding.code, finding.step, finding.confidence) == ("GL510", 1, Confidence.HIGH)
    assert words in finding.label


def test_a_scaler_alone_does_no_harm() -> None:
    def program() -> None:
        model = net()
        train(lambda x, y: F.cross_entropy(model(x), y), model, scaled=True)

    assert found(program, least=Confidence.MEDIUM) == []


# Right


def everything_in_the_block() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.TransformerEncoderLayer(8, 2, 8, batch_first=True), nn.Linear(8, 3))

    def loss(x: Tensor, y: Tensor) -> Tensor:
        with half():
            return F.cross_entropy(model(x[None])[0], y)

    train(loss, model, scaled=True)


def loss_in_float32() -> None:
    model = net()

    def loss(x: Tensor, y: Tensor) -> Tensor:
        with half():
            out = model(x)
            with half(enabled=False):
                return F.cross_entropy(out.float(), y)

    train(loss, model, scaled=True)


def turned_off_for_the_model() -> None:
    model = net()

    def loss(x: Tensor, y: Tensor) -> Tensor:
        with half():
            with half(enabled=False):
                out = model(x)
            return F.cross_entropy(out, y)

    train(loss, model, scaled=True)


def all_of_it_off() -> None:
    model = net()

    def loss(x: Tensor, y: Tensor) -> Tensor:
        with half(enabled=False):
            return F.cross_entropy(model(x), y)

    train(loss, model)


def teacher_in_half() -> None:
    model = net()
    teachers = [copy.deepcopy(model)]

    def loss(x: Tensor, y: Tensor) -> Tensor:
        out = model(x).log_softmax(1)
        with half():
            with torch.no_grad():
                target = teachers[0](x).softmax(1)
            return F.kl_div(out, target, reduction="batchmean")

    train(loss, model)


def probe_of_a_frozen_body() -> None:
    """The block is there for the body; the head is trained in float32, and the scaler has nothing to do."""
    body, head = net().requires_grad_(False), nn.Linear(3, 3)

    def loss(x: Tensor, y: Tensor) -> Tensor:
        with half():
            out = body(x)
        out = head(out.float())
        with half():
            return F.cross_entropy(out, y)

    train(loss, head, scaled=True)


def head_beside_a_body_on_another_device() -> None:
    body, head = net().requires_grad_(False), nn.Linear(3, 3)

    def loss(x: Tensor, y: Tensor) -> Tensor:
        with torch.autocast("xpu", dtype=torch.bfloat16):
            return F.cross_entropy(head(body(x)), y)

    train(loss, head)


def evaluation_in_half() -> None:
    model = net()

    def loss(x: Tensor, y: Tensor) -> Tensor:
        with half():
            model(x)
        return F.cross_entropy(model(x), y)

    train(loss, model)


def evaluation_in_half_and_a_scaler() -> None:
    model = net()

    def loss(x: Tensor, y: Tensor) -> Tensor:
        with torch.no_grad(), half():
            model(x)
        return F.cross_entropy(model(x), y)

    train(loss, model, scaled=True)


def turned_off_by_a_call() -> None:
    model = net()

    def loss(x: Tensor, y: Tensor) -> Tensor:
        with half():
            torch.set_autocast_enabled("cpu", False)
            return F.cross_entropy(model(x), y)

    train(loss, model, scaled=True)


def weights_in_half() -> None:
    model = net().bfloat16()
    train(lambda x, y: F.cross_entropy(model(x.bfloat16()).float(), y), model, scaled=True)


def embedding_in_half() -> None:
    table, head = nn.Embedding(3, 8, dtype=torch.bfloat16), nn.Linear(8, 3)
    train(lambda x, y: F.cross_entropy(head(table(y).float()), y), table, head, scaled=True)


def in_double() -> None:
    model = net().double()

    def loss(x: Tensor, y: Tensor) -> Tensor:
        with half():
            return F.cross_entropy(model(x.double()), y)

    train(loss, model)


class Halved(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.bfloat16().float()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


def function_of_the_users() -> None:
    model = net()

    def loss(x: Tensor, y: Tensor) -> Tensor:
        out = Halved.apply(model(x))
        with half():
            return F.cross_entropy(out, y)

    train(loss, model, scaled=True)


def penalty_in_float32() -> None:
    """Two losses for the same weights: one of them in half precision, and the other, which comes first, is not."""
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    scaler = torch.amp.GradScaler("cpu")
    for _ in range(3):
        optimizer.zero_grad()
        with half():
            loss = F.cross_entropy(model(torch.randn(16, 8)), torch.randint(3, (16,)))
        scaler.scale(sum(((p.t() @ p).sum() for p in model.parameters() if p.ndim > 1), torch.zeros(()))).backward()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()


def head_in_float32() -> None:
    body, head = net(), nn.Linear(3, 3)

    def loss(x: Tensor, y: Tensor) -> Tensor:
        with half():
            out = body(x)
        out = head(out.float())
        with half():
            return F.cross_entropy(out, y)

    train(loss, body, head, scaled=True)


def checkpointed() -> None:
    model = net()

    def loss(x: Tensor, y: Tensor) -> Tensor:
        with half():
            out = torch.utils.checkpoint.checkpoint(model, x, use_reentrant=False)
        return F.cross_entropy(out.float(), y)

    train(loss, model, scaled=True)


def by_the_wrapped_forward() -> None:
    model = net()
    model.forward = half()(model.forward)
    train(lambda x, y: F.cross_entropy(model(x).float(), y), model)


def wrapped_and_turned_off() -> None:
    model = net()
    model.forward = half()(model.forward)

    def loss(x: Tensor, y: Tensor) -> Tensor:
        with half(enabled=False):
            return F.cross_entropy(model[2](model[1](model[0](x))), y)

    train(loss, model)


def no_layers() -> None:
    weight = nn.ParameterList([torch.randn(8)])

    def loss(x: Tensor, y: Tensor) -> Tensor:
        with half():
            return (x * weight[0]).square().mean()

    train(loss, weight, scaled=True)


@pytest.mark.parametrize(
    "program",
    [
        evaluation_in_half_and_a_scaler, turned_off_by_a_call,
        everything_in_the_block, loss_in_float32, turned_off_for_the_model, all_of_it_off, teacher_in_half,
        probe_of_a_frozen_body, head_beside_a_body_on_another_device,
        evaluation_in_half, weights_in_half, embedding_in_half, in_double, function_of_the_users, penalty_in_float32,
        head_in_float32, checkpointed, by_the_wrapped_forward, wrapped_and_turned_off, no_layers,
    ],
)  # fmt: skip
def test_silent(program: Callable[[], object]) -> None:
    assert found(program) == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_scripted_code_may_use_autocast() -> None:
    def program() -> None:
        @torch.jit.script
        def double(x: Tensor) -> Tensor:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return torch.mm(x, x)

        assert double(torch.ones(2, 2)).dtype == torch.bfloat16

    assert found(program) == []


def test_nothing_is_left_when_the_watching_ends() -> None:
    autocast: Any = torch.amp.autocast_mode.autocast
    before = autocast.__enter__, autocast.__exit__
    found(everything_in_the_block)
    assert (autocast.__enter__, autocast.__exit__) == before
    assert not regions.RECENT
    assert not regions.LOOKING
