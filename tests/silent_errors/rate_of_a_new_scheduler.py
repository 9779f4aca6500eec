"""Everything is restored and in the wrong order: the scheduler is built after the optimizer has its rate back."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, SequentialLR

CODE = "GL213"


def schedule(optimizer: torch.optim.Optimizer) -> LRScheduler:
    warm_up, decay = LinearLR(optimizer, 0.01, total_iters=3), CosineAnnealingLR(optimizer, 20)
    return SequentialLR(optimizer, [warm_up, decay], [3])


def train(model: nn.Module, optimizer: torch.optim.Optimizer, scheduler: LRScheduler, epochs: int) -> None:
    for _ in range(epochs):
        for _ in range(2):
            optimizer.zero_grad()
            model(torch.randn(8, 3)).square().mean().backward()
            optimizer.step()
        scheduler.step()


def checkpoint() -> dict[str, Any]:
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = schedule(optimizer)
    train(model, optimizer, scheduler, 6)
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}


def resume(*, late: bool) -> None:
    saved = checkpoint()
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model.load_state_dict(saved["model"])
    if late:
        optimizer.load_state_dict(saved["optimizer"])
        scheduler = schedule(optimizer)
    else:
        scheduler = schedule(optimizer)
        optimizer.load_state_dict(saved["optimizer"])
    scheduler.load_state_dict(saved["scheduler"])
    train(model, optimizer, scheduler, 2)


def wrong() -> None:
    resume(late=True)


def right() -> None:
    resume(late=False)
