"""TransformersWatch against the real Trainer, with a tiny model of its own: nothing is downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from gradcheck_lint import watch  # noqa: E402
from gradcheck_lint.frameworks import TransformersWatch  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")


class Tiny(nn.Module):
    """What the Trainer asks of a model: a loss, if it is given labels."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.1), nn.Linear(8, 1))

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        output = self.layers(x)
        return {"loss": nn.functional.mse_loss(output, labels), "logits": output}


class Data(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    def __init__(self) -> None:
        self.x = torch.randn(44, 4)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"x": self.x[index], "labels": self.x[index].sum(0, keepdim=True)}


class KeepsGradients(transformers.Trainer):  # type: ignore[misc]
    """A `training_step` of the user's own that makes the next `zero_grad` clear nothing."""

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        model.zero_grad = lambda set_to_none=True: None
        self.optimizer.zero_grad = lambda set_to_none=True: None
        loss = model(**inputs)["loss"]
        self.accelerator.backward(loss)
        return loss.detach()


def train(
    folder: Path, model: nn.Module | None = None, kind: Any = None, optimizers: Any = (None, None), **options: Any
) -> watch:
    torch.manual_seed(0)
    callback = TransformersWatch(on_finding="ignore", min_confidence="medium")
    settings = {
        "num_train_epochs": 2,
        "per_device_train_batch_size": 4,
        "report_to": [],
        "save_strategy": "no",
        "use_cpu": True,
        "disable_tqdm": True,
        "logging_steps": 5,
        "dataloader_pin_memory": False,
    }
    arguments = transformers.TrainingArguments(str(folder), **{**settings, **options})
    trainer = (kind or transformers.Trainer)(
        model or Tiny(),
        arguments,
        train_dataset=Data(),
        eval_dataset=Data(),
        callbacks=[callback],
        optimizers=optimizers,
    )
    trainer.train()
    assert callback.run is not None
    assert callback.run.record.problems == []
    return callback.run


RIGHT: dict[str, dict[str, Any]] = {
    "plain": {},
    "accumulation": {"gradient_accumulation_steps": 4},
    "evaluation": {"eval_strategy": "steps", "eval_steps": 5},
    "bf16": {"bf16": True},
    "no clipping": {"max_grad_norm": 0.0},
    "sgd": {"optim": "sgd", "warmup_steps": 3},
    "adafactor": {"optim": "adafactor"},
}


@pytest.mark.parametrize("options", RIGHT.values(), ids=RIGHT)
def test_right(options: dict[str, Any], tmp_path: Path) -> None:
    run = train(tmp_path, **options)
    assert [(finding.code, finding.label) for finding in run.findings] == []
    (optimizer,) = run.record.optimizers
    assert optimizer.steps > 1
    assert "layers.0.weight" in {parameter.name for parameter in optimizer.parameters}


def test_a_model_of_the_library(tmp_path: Path) -> None:
    config = transformers.GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=16, n_positions=8)
    model = transformers.GPT2LMHeadModel(config)

    class Text(Data):
        def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
            tokens = torch.arange(8) % 16
            return {"input_ids": tokens, "labels": tokens}

    torch.manual_seed(0)
    callback = TransformersWatch(on_finding="ignore", min_confidence="medium")
    arguments = transformers.TrainingArguments(
        str(tmp_path), max_steps=6, per_device_train_batch_size=4, report_to=[], save_strategy="no", use_cpu=True,
        disable_tqdm=True, dataloader_pin_memory=False, gradient_accumulation_steps=2,
    )  # fmt: skip
    transformers.Trainer(model, arguments, train_dataset=Text(), callbacks=[callback]).train()
    assert callback.run is not None
    assert [(finding.code, finding.label) for finding in callback.run.findings] == []
    assert callback.run.record.problems == []


def test_gradients_that_are_kept(tmp_path: Path) -> None:
    found = train(tmp_path, kind=KeepsGradients).findings
    assert [finding.code for finding in found] == ["GL101"]
    assert found[0].span.path.endswith("test_transformers.py")


def test_an_optimizer_of_another_model(tmp_path: Path) -> None:
    optimizer = torch.optim.SGD(Tiny().parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    run = train(tmp_path, optimizers=(optimizer, schedule))
    assert run.findings
    assert {finding.code for finding in run.findings} <= {"GL201", "GL202", "GL207", "GL208", "GL308"}


def test_nothing_remains(tmp_path: Path) -> None:
    train(tmp_path)
    assert watch._running == []
