"""Where the framework holds the loop and builds the optimizer, a finding stands on the user's line all the same."""

from __future__ import annotations

import inspect
import linecache
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gradcheck_lint import watch
from gradcheck_lint.finding import Finding

pytestmark = pytest.mark.filterwarnings("ignore")
PLACES = {
    "": "",
    "GL308": "self.extra = [nn.Linear(8, 8)]",
    "GL309": "self.gain = torch.ones(8, requires_grad=True)",
    "GL315": "h = nn.Linear(8, 8)(h)",
    "GL317": 'self.register_buffer("scale", torch.ones(8, requires_grad=True))',
}


class Net(nn.Module):
    """Two layers, and the mistake that is made with them; "" for none."""

    def __init__(self, mistake: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.mistake = mistake
        self.body = nn.Linear(4, 8)
        self.head = nn.Linear(8, 1)
        if mistake == "GL308":
            self.extra = [nn.Linear(8, 8)]
        if mistake == "GL309":
            self.gain = torch.ones(8, requires_grad=True)
        if mistake == "GL317":
            self.register_buffer("scale", torch.ones(8, requires_grad=True))

    def forward(self, x: torch.Tensor, labels: torch.Tensor | None = None) -> Any:
        h = torch.tanh(self.body(x))
        if self.mistake == "GL308":
            h = self.extra[0](h)
        if self.mistake == "GL309":
            h = h * self.gain
        if self.mistake == "GL315":
            h = nn.Linear(8, 8)(h)
        if self.mistake == "GL317":
            h = h * self.scale
        return {"loss": self.head(h).pow(2).mean()}


def told(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(f.code, linecache.getline(str(Path(f.span.path).absolute()), f.span.line).strip()) for f in findings]


def expected(mistake: str) -> list[tuple[str, str]]:
    return [(mistake, PLACES[mistake])] if mistake else []


class Data(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    def __len__(self) -> int:
        return 44

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"x": torch.full((4,), float(index)), "labels": torch.zeros(1)}


def lightning(mistake: str, *, rebuilt: bool = False) -> list[Finding]:
    pytorch = pytest.importorskip("lightning.pytorch")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    class Module(pytorch.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.net = Net(mistake)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.01)

        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            loss: torch.Tensor = self.net(batch["x"])["loss"]
            if rebuilt:
                loss = torch.tensor(loss.item(), requires_grad=True)
            return loss

    trainer = pytorch.Trainer(
        max_epochs=1, accelerator="cpu", devices=1, logger=False, enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False,
    )  # fmt: skip
    with watch(on_finding="ignore", quiet=True) as run:
        trainer.fit(Module(), torch.utils.data.DataLoader(Data(), batch_size=4))
    assert run.record.problems == []
    return run.findings


def transformers(mistake: str, out: Path, *, rebuilt: bool = False) -> list[Finding]:
    package = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")

    class Trainer(package.Trainer):  # type: ignore[misc]
        def compute_loss(self, model: Any, inputs: Any, *given: Any, **named: Any) -> torch.Tensor:
            loss: torch.Tensor = model(**inputs)["loss"]
            if rebuilt:
                loss = torch.tensor(loss.item(), requires_grad=True)
            return loss

    arguments = package.TrainingArguments(
        str(out), num_train_epochs=1, per_device_train_batch_size=4, report_to=[], use_cpu=True,
        disable_tqdm=True, dataloader_pin_memory=False, save_strategy="no",
    )  # fmt: skip
    with watch(on_finding="ignore", quiet=True) as run:
        Trainer(Net(mistake), arguments, train_dataset=Data()).train()
    assert run.record.problems == []
    return run.findings


@pytest.mark.parametrize("mistake", PLACES)
def test_lightning(mistake: str) -> None:
    assert told(lightning(mistake)) == expected(mistake)


@pytest.mark.parametrize("mistake", PLACES)
def test_transformers(mistake: str, tmp_path: Path) -> None:
    assert told(transformers(mistake, tmp_path)) == expected(mistake)


def test_the_method_that_gives_the_loss(tmp_path: Path) -> None:
    """It is the framework that calls backward."""
    for findings in (lightning("", rebuilt=True), transformers("", tmp_path, rebuilt=True)):
        assert told(findings) == [("GL401", "return loss")]


def test_the_places_are_lines_of_this_file() -> None:
    lines = {line.strip() for line in inspect.getsource(Net).splitlines()}
    assert {place for place in PLACES.values() if place} <= lines
