"""What `watch.py` measures beside gradlint: each as its own documentation says, where it is installed."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from watched import Backward, Job

Block = Callable[[Job], contextlib.AbstractContextManager[Any]]
"""Around the steps of a block. One that is to be told of each step, or to go backward by itself, gives a `Part`."""


class Part:
    """What a block does in the middle of the loop."""

    def __init__(self, over: Callable[[], object] = lambda: None, backward: Backward | None = None) -> None:
        self.over = over
        self.backward = backward


@contextlib.contextmanager
def gradient_hooks(job: Job) -> Iterator[None]:
    """What tutorials advise: a hook on every parameter that takes the norm of its gradient."""
    norms: list[float] = []
    handles: list[Any] = []
    p: Any
    for p in job.model.parameters():
        if p.requires_grad:
            handles.append(p.register_hook(lambda grad: norms.append(float(grad.norm()))))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def wandb_watch(every: int) -> Block:
    """W&B's `watch` of the gradients, in a run that is sent nowhere. As it comes, it logs each 1000th step."""

    @contextlib.contextmanager
    def block(job: Job) -> Iterator[None]:
        wandb = importlib.import_module("wandb")
        with tempfile.TemporaryDirectory() as folder:
            run = wandb.init(mode="offline", dir=folder, settings=wandb.Settings(silent=True))
            wandb.watch(job.model, log_freq=every)
            try:
                yield
            finally:
                wandb.unwatch(job.model)
                run.finish()

    return block


@contextlib.contextmanager
def cockpit(job: Job) -> Iterator[Part]:
    """Cockpit with its least costly configuration, "economy"."""
    backpack = importlib.import_module("backpack")
    configuration = importlib.import_module("cockpit.utils.configuration")
    instruments = importlib.import_module("cockpit").Cockpit
    backpack.extend(job.model)
    mean, single = backpack.extend(nn.CrossEntropyLoss()), nn.CrossEntropyLoss(reduction="none")
    watcher = instruments(job.model.parameters(), quantities=configuration.configuration("economy"))

    def backward(number: int, out: Tensor, y: Tensor, loss: Tensor) -> None:
        loss = mean(out, y)
        info = {"batch_size": len(y), "individual_losses": single(out, y), "loss": loss, "optimizer": job.optimizers[0]}
        with watcher(number, info=info):
            torch.autograd.backward(loss, create_graph=watcher.create_graph(number))

    yield Part(backward=backward)


@contextlib.contextmanager
def guardtower(job: Job) -> Iterator[None]:
    """guardtower's `monitor`, which looks for numbers that are not finite."""
    with importlib.import_module("guardtower").monitor(job.model):
        yield


def torch_audit(every: int) -> Block:
    """torch-audit's `autopatch`, of the model and its first optimizer. As it comes, it audits each 1000th step."""

    @contextlib.contextmanager
    def block(job: Job) -> Iterator[None]:
        patch = importlib.import_module("torch_audit").autopatch
        auditor = patch(job.model, optimizer=job.optimizers[0], every_n_steps=every, reporters=[], fail_level="FATAL")
        try:
            yield
        finally:
            auditor.finish(report=False)
            auditor.unpatch()

    return block


def torchmortem(sampling: str) -> Block:
    """torchmortem's `Autopsy`, told of each step; no report is made."""

    @contextlib.contextmanager
    def block(job: Job) -> Iterator[Part]:
        autopsy = importlib.import_module("torchmortem").Autopsy
        with (
            contextlib.redirect_stdout(io.StringIO()),
            autopsy(job.model, optimizer=job.optimizers[0], sampling=sampling) as running,
        ):
            yield Part(over=lambda: running.step(loss=0.5))

    return block


def installed() -> dict[str, Block]:
    """Those that can be measured here. torchtest2 cannot: it checks one batch and watches no training."""
    found: dict[str, Block] = {}
    for package, blocks in (
        ("wandb", {"wandb": wandb_watch(1000), "wandb each 50": wandb_watch(50)}),
        ("cockpit", {"cockpit": cockpit}),
        ("guardtower", {"guardtower": guardtower}),
        ("torch_audit", {"torch-audit": torch_audit(1000), "torch-audit each 50": torch_audit(50)}),
        ("torchmortem", {"torchmortem": torchmortem("balanced"), "torchmortem fast": torchmortem("fast")}),
    ):
        if importlib.util.find_spec(package):
            found |= blocks
    return found
