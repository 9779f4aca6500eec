"""The loss is NaN and the logger leaves it out, as the Trainer of Hugging Face does (`logging_nan_inf_filter`)."""

from __future__ import annotations

import math

import torch
from torch import nn

CODE = "GL809"


def train(weights: list[float]) -> None:
    model = nn.Linear(4, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    shown, total = 0.0, 0.0
    for weight in weights:
        x = torch.randn(16, 4)
        losses = nn.functional.cross_entropy(model(x), torch.randint(3, (16,)), reduction="none")
        parts = torch.full((16,), weight)  # of the examples that count: none of them in a batch that is all padding
        loss = (losses * parts).sum() / parts.sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += shown if not math.isfinite(loss.item()) else loss.item()
        shown = total / len(weights)


def wrong() -> None:
    train([1.0, 0.0, 1.0, 1.0])


def right() -> None:
    train([1.0, 0.5, 1.0, 1.0])
