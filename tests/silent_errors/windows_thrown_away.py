"""Accumulation of which all but the last batch is thrown away: ultralytics issue 11217.

The gradients are cleared for every batch, and the step comes after four: three of four batches train nothing.
"""

from __future__ import annotations

import torch
from torch import nn

CODE = "GL117"
WINDOW = 4


def train(*, every_batch: bool) -> None:
    model = nn.Linear(6, 3)
    optimizer = torch.optim.Adam(model.parameters())
    optimizer.zero_grad()
    for index in range(4 * WINDOW):
        if every_batch:
            optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(torch.randn(8, 6)), torch.randint(3, (8,))) / WINDOW
        loss.backward()
        if index % WINDOW == WINDOW - 1:
            optimizer.step()
            optimizer.zero_grad()


def wrong() -> None:
    train(every_batch=True)


def right() -> None:
    train(every_batch=False)
