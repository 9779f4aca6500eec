"""The optimizer was built for a model that was then copied, and the copy trained: accelerate issues 2665 and 3256."""

from __future__ import annotations

import copy

import torch
from torch import nn

CODE = "GL202"


def train(*, early: bool) -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    prepared = copy.deepcopy(model)
    if not early:
        optimizer = torch.optim.AdamW(prepared.parameters(), lr=0.01)
    for _ in range(4):
        optimizer.zero_grad()
        prepared(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()


def wrong() -> None:
    train(early=True)


def right() -> None:
    train(early=False)
