"""Gradients are clipped while they are multiplied by the loss scale: the threshold is 65,536 times too small."""

from __future__ import annotations

import torch
from torch import nn

CODE = "GL108"


def train(*, unscale: bool) -> None:
    model = nn.Linear(5, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for _ in range(4):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(torch.randn(8, 5)).float().square().mean()
        scaler.scale(loss).backward()
        if unscale:
            scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()


def wrong() -> None:
    train(unscale=False)


def right() -> None:
    train(unscale=True)
