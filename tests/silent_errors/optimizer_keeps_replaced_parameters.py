"""A layer gets new parameters, and the optimizer goes on with the old ones: DeepSpeed issues 6770 and 8377."""

from __future__ import annotations

import torch
from torch import nn

CODE = "GL201"


def train(*, again: bool) -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for layer in model:
        if isinstance(layer, nn.Linear):
            layer.weight = nn.Parameter(layer.weight.detach().clone())
    if again:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(4):
        optimizer.zero_grad()
        model(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()


def wrong() -> None:
    train(again=False)


def right() -> None:
    train(again=True)
