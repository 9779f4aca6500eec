"""Gradients of all batches pile up: the question "Why do we need to call zero_grad()?", StackOverflow 60335387."""

from __future__ import annotations

import torch
from torch import nn

CODE = "GL101"


def train(*, clear: bool) -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    for _ in range(4):
        x = torch.randn(16, 4)
        if clear:
            optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), (x.sum(1) > 0).long())
        loss.backward()
        optimizer.step()


def wrong() -> None:
    train(clear=False)


def right() -> None:
    train(clear=True)
