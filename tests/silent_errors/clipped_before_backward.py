"""Gradients are clipped where there are none yet, and so not at all: a common answer in forums puts the line there."""

from __future__ import annotations

import torch
from torch import nn

CODE = "GL107"


def train(*, early: bool) -> None:
    model = nn.Linear(5, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(4):
        loss = model(100 * torch.randn(8, 5)).square().mean()
        optimizer.zero_grad()
        if early:
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        loss.backward()
        if not early:
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


def wrong() -> None:
    train(early=True)


def right() -> None:
    train(early=False)
