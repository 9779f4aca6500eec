"""Gradients are clipped when the step has already used them."""

from __future__ import annotations

import torch
from torch import nn

CODE = "GL107"


def train(*, late: bool) -> None:
    model = nn.Linear(5, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(4):
        optimizer.zero_grad()
        model(100 * torch.randn(8, 5)).square().mean().backward()
        if not late:
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if late:
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)


def wrong() -> None:
    train(late=True)


def right() -> None:
    train(late=False)
