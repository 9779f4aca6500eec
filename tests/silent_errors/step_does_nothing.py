"""A step that returns and writes nothing: a fused kernel without an effect, as in pytorch issue 115607 and its like."""

from __future__ import annotations

import importlib
from typing import Any
from unittest import mock

import torch
from torch import nn

CODE = "GL802"


def train() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(4):
        x = torch.randn(16, 4)
        loss = nn.functional.cross_entropy(model(x), (x.sum(1) > 0).long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def idle(*args: Any, **kwargs: Any) -> None:
    """Takes weights, gradients and state like the real kernel, and leaves them as they are."""


def wrong() -> None:
    with mock.patch.object(importlib.import_module("torch.optim.adam"), "adam", idle):
        train()


def right() -> None:
    train()
