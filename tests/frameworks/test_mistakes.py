"""The same mistakes under each framework, watched by its callback and without: what comes after the last step, as
moving the model to the CPU or loading its best state, must take nothing back of what was seen.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gradcheck_lint import watch

pytestmark = pytest.mark.filterwarnings("ignore")
OPTIONS: dict[str, Any] = {"on_finding": "ignore", "quiet": True}
WAYS = ["callback", "watch()", "watch(model=)"]
MISTAKES = ["", "GL101", "GL104", "GL201", "GL202", "GL207", "GL304"]
Way = Callable[[Callable[[], object]], watch]


class Net(nn.Module):
    """Two layers, and the mistake that is made with them; "" for none."""

    def __init__(self, mistake: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Linear(4, 8)
        self.head = nn.Linear(8, 1)
        self.mistake = mistake

    def forward(self, x: torch.Tensor, labels: torch.Tensor | None = None) -> Any:
        output = self.head(torch.tanh(self.body(x)))
        loss = nn.functional.mse_loss(output, x.sum(1, keepdim=True) if labels is None else labels)
        return loss if labels is None else {"loss": loss, "logits": output}

    def optimizer(self) -> torch.optim.Optimizer:
        if self.mistake == "GL304":
            self.body.requires_grad_(False)
        part = self.body if self.mistake in ("GL207", "GL304") else self
        return torch.optim.SGD(part.parameters(), lr=0.01)

    def begin(self) -> None:
        """The optimizer has been built."""
        if self.mistake == "GL201":
            self.head.weight = nn.Parameter(torch.full((1, 8), 0.25))
        elif self.mistake == "GL202":
            self.head = nn.Linear(8, 1)

    def step(self, x: torch.Tensor, optimizer: Any, backward: Callable[[torch.Tensor], object]) -> None:
        """One step of a loop of the user's own."""
        if self.mistake == "GL104":
            optimizer.step()
        if self.mistake != "GL101":
            optimizer.zero_grad()
        backward(self(x))
        if self.mistake == "GL104":
            optimizer.zero_grad()
        else:
            optimizer.step()


def expected(mistake: str) -> list[str]:
    return [mistake] if mistake else []


def judged(run: watch | None) -> list[str]:
    assert run is not None
    assert run.record.problems == []
    assert sum(optimizer.steps for optimizer in run.record.optimizers) == 22
    return [finding.code for finding in run.findings]


def without(way: str, model: nn.Module) -> watch:
    return watch(**OPTIONS) if way == "watch()" else watch(model=model, **OPTIONS)


# Lightning


def lightning_trained(mistake: str, way: str, *, manual: bool) -> list[str]:
    lightning = pytest.importorskip("lightning.pytorch")
    from gradcheck_lint.frameworks import LightningWatch

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    class Module(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.net = Net(mistake)
            self.automatic_optimization = not manual

        def configure_optimizers(self) -> Any:
            return self.net.optimizer()

        def on_train_start(self) -> None:
            self.net.begin()

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if manual:
                return self.net.step(batch[0], self.optimizers(), self.manual_backward)
            return self.net(batch[0]) if mistake != "GL104" else None

        def optimizer_zero_grad(self, *given: Any) -> None:
            if mistake != "GL101":
                super().optimizer_zero_grad(*given)

    module = Module()
    callbacks = [LightningWatch(**OPTIONS)] if way == "callback" else []
    trainer = lightning.Trainer(
        max_epochs=2, accelerator="cpu", devices=1, logger=False, enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False, callbacks=callbacks,
    )  # fmt: skip
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(44, 4)), batch_size=4)
    if callbacks:
        trainer.fit(module, data)
        return judged(callbacks[0].run)
    with without(way, module) as run:
        trainer.fit(module, data)
    return judged(run)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mistake", MISTAKES)
def test_lightning(mistake: str, way: str) -> None:
    """A batch without a loss is what Lightning allows, and GL605 where there is none for any batch."""
    codes = lightning_trained(mistake, way, manual=False)
    assert codes == (["GL605"] if mistake == "GL104" else expected(mistake))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mistake", MISTAKES)
def test_lightning_by_hand(mistake: str, way: str) -> None:
    assert lightning_trained(mistake, way, manual=True) == expected(mistake)


# transformers


class Data(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    def __init__(self) -> None:
        self.x = torch.randn(44, 4)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"x": self.x[index], "labels": self.x[index].sum(0, keepdim=True)}


@pytest.mark.parametrize("best", [False, True], ids=["plain", "best"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mistake", MISTAKES)
def test_transformers(mistake: str, way: str, best: bool, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    from gradcheck_lint.frameworks import TransformersWatch

    class Begins(transformers.TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, *args: Any, model: Any = None, **others: Any) -> None:
            model.begin()

    class Trainer(transformers.Trainer):  # type: ignore[misc]
        def create_optimizer(self, *given: Any) -> Any:
            self.optimizer = self.optimizer or self.model.optimizer()
            return self.optimizer

        def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
            if mistake == "GL101":
                model.zero_grad = self.optimizer.zero_grad = lambda set_to_none=True: None
            if mistake == "GL104":
                return model(**inputs)["loss"].detach()
            return super().training_step(model, inputs, num_items_in_batch)

    model = Net(mistake)
    callbacks = [TransformersWatch(**OPTIONS)] if way == "callback" else []
    when = "epoch" if best else "no"
    arguments = transformers.TrainingArguments(
        str(tmp_path), num_train_epochs=2, per_device_train_batch_size=4, report_to=[], use_cpu=True,
        disable_tqdm=True, dataloader_pin_memory=False, load_best_model_at_end=best, save_strategy=when,
        eval_strategy=when, metric_for_best_model="loss",
    )  # fmt: skip
    trainer = Trainer(model, arguments, train_dataset=Data(), eval_dataset=Data(), callbacks=[*callbacks, Begins()])
    if callbacks:
        trainer.train()
        run = callbacks[0].run
    else:
        with without(way, model) as run:
            trainer.train()
    assert judged(run) == expected(mistake)


# Accelerate


@pytest.fixture
def alone() -> Iterator[None]:
    """Each test has Accelerators of its own."""
    accelerate = pytest.importorskip("accelerate")
    accelerate.state.AcceleratorState._reset_state(True)
    accelerate.state.GradientState._reset_state()
    yield
    accelerate.state.AcceleratorState._reset_state(True)
    accelerate.state.GradientState._reset_state()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mistake", MISTAKES)
def test_accelerate(mistake: str, way: str, alone: None) -> None:
    accelerate = pytest.importorskip("accelerate")
    from gradcheck_lint.frameworks import AccelerateWatch

    with contextlib.ExitStack() as stack:
        run = stack.enter_context(watch(**OPTIONS)) if way == "watch()" else None
        accelerator = accelerate.Accelerator(cpu=True)
        net = Net(mistake)
        loader = torch.utils.data.DataLoader(torch.randn(44, 4), batch_size=4)
        model, optimizer, loader = accelerator.prepare(net, net.optimizer(), loader)
        if way == "callback":
            run = stack.enter_context(AccelerateWatch(accelerator, **OPTIONS))
        elif way == "watch(model=)":
            run = stack.enter_context(watch(optimizer, model=model, **OPTIONS))
        net.begin()
        for _ in range(2):
            for x in loader:
                net.step(x, optimizer, accelerator.backward)
        accelerator.unwrap_model(model).half()
    assert judged(run) == expected(mistake)


# Ignite


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mistake", MISTAKES)
def test_ignite(mistake: str, way: str) -> None:
    engine = pytest.importorskip("ignite.engine")
    from gradcheck_lint.frameworks import IgniteWatch

    with contextlib.ExitStack() as stack:
        run = stack.enter_context(watch(**OPTIONS)) if way == "watch()" else None
        net = Net(mistake)
        optimizer = net.optimizer()
        trainer = engine.Engine(lambda engine, x: net.step(x, optimizer, torch.Tensor.backward))
        callback = IgniteWatch(optimizer, model=net, **OPTIONS)
        if way == "callback":
            callback.attach(trainer)
        elif way == "watch(model=)":
            run = stack.enter_context(watch(optimizer, model=net, **OPTIONS))
        trainer.add_event_handler(engine.Events.STARTED, lambda engine: net.begin())
        trainer.run(torch.randn(11, 4, 4), max_epochs=2)
        net.half()
    assert judged(run or callback.run) == expected(mistake)
