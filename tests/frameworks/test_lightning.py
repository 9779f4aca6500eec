"""LightningWatch against the real package: correct modules are left in peace, mistakes are found."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

lightning = pytest.importorskip("lightning.pytorch")

from lightning.pytorch.utilities.exceptions import MisconfigurationException  # noqa: E402

from gradcheck_lint import Finding, watch  # noqa: E402
from gradcheck_lint.frameworks import LightningWatch  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")


class Net(lightning.LightningModule):
    """Right as it is; what subclasses change is named by them."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.1), nn.Linear(8, 1))

    def loss(self, batch: Any) -> torch.Tensor:
        (x,) = batch
        return nn.functional.mse_loss(self.layers(x), x.sum(1, keepdim=True))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.loss(batch)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.loss(batch)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.01)


class Scheduled(Net):
    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.01)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]


class Search(Net):
    def configure_optimizers(self) -> Any:
        return torch.optim.LBFGS(self.parameters(), lr=0.1, max_iter=4)


class WarmUp(Net):
    """An `optimizer_step` of its own that hands the closure on."""

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        optimizer.step(closure=optimizer_closure)
        for group in optimizer.param_groups:
            group["lr"] = 0.01 * min(1.0, (batch_idx + 1) / 5)


class Now(Net):
    """Every second batch only adds gradients."""

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        if batch_idx % 2:
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        else:
            optimizer_closure()

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Any) -> None:
        if batch_idx % 2 == 0:
            optimizer.zero_grad()


class Skips(Net):
    """Leaves a batch out now and then, as Lightning allows."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return None if batch_idx == 2 else self.loss(batch)


class Manual(Net):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(self.loss(batch))
        self.clip_gradients(optimizer, gradient_clip_val=0.5, gradient_clip_algorithm="norm")
        optimizer.step()


class ManualWindow(Manual):
    """Manual accumulation over four batches."""

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizer = self.optimizers()
        self.manual_backward(self.loss(batch) / 4)
        if (batch_idx + 1) % 4 == 0 or self.trainer.is_last_batch:
            optimizer.step()
            optimizer.zero_grad()


class LostWindow(Manual):
    """The gradients of the last three batches are there when Lightning clears them, before it validates."""

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizer = self.optimizers()
        self.manual_backward(self.loss(batch) / 4)
        if (batch_idx + 1) % 4 == 0:
            optimizer.step()
            optimizer.zero_grad()


class Gan(lightning.LightningModule):
    """Two optimizers, toggled as in Lightning's own example."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator, self.critic = nn.Linear(2, 4), nn.Linear(4, 1)

    def training_step(self, batch: Any, batch_idx: int) -> None:
        opt_g, opt_c = self.optimizers()
        noise = torch.randn(len(batch[0]), 2)

        self.toggle_optimizer(opt_g)
        loss = -self.critic(self.generator(noise)).mean()
        self.manual_backward(loss)
        opt_g.step()
        opt_g.zero_grad()
        self.untoggle_optimizer(opt_g)

        self.toggle_optimizer(opt_c)
        loss = self.critic(self.generator(noise).detach()).mean() - self.critic(batch[0]).mean()
        self.manual_backward(loss)
        opt_c.step()
        opt_c.zero_grad()
        self.untoggle_optimizer(opt_c)

    def configure_optimizers(self) -> Any:
        return [torch.optim.Adam(part.parameters(), lr=1e-3) for part in (self.generator, self.critic)]


class NoClosure(Net):
    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        optimizer.step()


class NoLoss(Net):
    def training_step(self, batch: Any, batch_idx: int) -> None:
        self.loss(batch)


class NeverCleared(Manual):
    def training_step(self, batch: Any, batch_idx: int) -> None:
        self.manual_backward(self.loss(batch))
        self.optimizers().step()


class HalfHeld(Net):
    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.layers[0].parameters(), lr=0.01)


def fit(module: Any, on_finding: Any = "ignore", **options: Any) -> watch:
    """The watch of a short training."""
    torch.manual_seed(0)
    data = torch.utils.data.TensorDataset(torch.randn(44, 4))
    loader = torch.utils.data.DataLoader(data, batch_size=4)
    callback = LightningWatch(on_finding=on_finding, quiet=True, min_confidence="medium")
    trainer = lightning.Trainer(
        max_epochs=2,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        callbacks=[callback],
        **options,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(module, loader, loader)
    assert callback.run is not None
    assert callback.run.record.problems == []
    return callback.run


RIGHT: list[tuple[type, dict[str, Any]]] = [
    (Net, {}),
    (Net, {"accumulate_grad_batches": 4}),
    (Net, {"precision": "bf16-mixed"}),
    (Net, {"precision": "16-mixed", "gradient_clip_val": 0.5}),
    (Net, {"precision": "bf16-true"}),
    (Net, {"precision": "64-true"}),
    (Net, {"gradient_clip_val": 0.1, "gradient_clip_algorithm": "value", "accumulate_grad_batches": 2}),
    (Scheduled, {}),
    (Search, {}),
    (WarmUp, {}),
    (Now, {}),
    (Skips, {}),
    (Manual, {}),
    (ManualWindow, {}),
    (Gan, {}),
]
WRONG = [(NoLoss, "GL605"), (NeverCleared, "GL101"), (HalfHeld, "GL207")]


@pytest.mark.parametrize(("module", "options"), RIGHT, ids=lambda value: getattr(value, "__name__", str(value)))
def test_right(module: type, options: dict[str, Any]) -> None:
    run = fit(module(), **options)
    assert [(finding.code, finding.label) for finding in run.findings] == []
    assert all(optimizer.steps > 1 for optimizer in run.record.optimizers)


@pytest.mark.parametrize(("module", "code"), WRONG, ids=lambda value: getattr(value, "__name__", str(value)))
def test_wrong(module: type, code: str) -> None:
    found = fit(module()).findings
    assert (found[0].code, found[0].confidence.name) == (code, "HIGH")
    assert len({finding.span.line for finding in found}) == 1
    assert found[0].span.path.endswith("test_lightning.py")


def test_the_rest_of_a_window() -> None:
    found = fit(LostWindow()).findings
    assert [(finding.code, finding.confidence.name) for finding in found] == [("GL111", "MEDIUM")]


def test_a_closure_that_is_left_out() -> None:
    """Lightning raises, and gradlint names the line."""
    found: list[Finding] = []
    with pytest.raises(MisconfigurationException, match="closure"):
        fit(NoClosure(), on_finding=found.append)
    (finding,) = found
    assert (finding.code, finding.step) == ("GL605", 1)
    text = Path(__file__).read_text(encoding="utf-8").split("\n")[finding.span.line - 1]
    assert text.strip() == "optimizer.step()"


def test_names_are_those_of_the_module() -> None:
    (optimizer,) = fit(Net()).record.optimizers
    assert optimizer.parameters[0].name == "layers.0.weight"


def test_an_exception_passes_through_and_ends_the_watch() -> None:
    class Fails(Net):
        def on_train_batch_end(self, *args: Any) -> None:
            raise KeyError("of the program")

    with pytest.raises(KeyError, match="of the program"):
        fit(Fails())
    assert watch._running == []


def test_the_same_weights_as_without() -> None:
    def weights(*callbacks: Any) -> list[torch.Tensor]:
        torch.manual_seed(0)
        module = Net()
        data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(24, 4)), batch_size=4)
        lightning.Trainer(
            max_epochs=2, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
            enable_checkpointing=False, callbacks=list(callbacks),
        ).fit(module, data)  # fmt: skip
        return [parameter.detach() for parameter in module.parameters()]

    watched, plain = weights(LightningWatch(on_finding="ignore")), weights()
    assert all(torch.equal(one, other) for one, other in zip(watched, plain, strict=True))
