"""Layers are registered in the order of a set, which another process has in another order: Lightning issue 17025.

The weights are loaded by name and are right. The optimizer's state is loaded by position and goes to other layers.
"""

from __future__ import annotations

import io
from collections.abc import Iterable

import torch
from torch import Tensor, nn

CODE = "GL213"


class Channels(nn.Module):
    def __init__(self, names: Iterable[str]) -> None:
        super().__init__()
        self.stems = nn.ModuleDict({name: nn.Linear(3, 4) for name in names})
        self.head = nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        found = torch.stack([self.stems[name](x) for name in sorted(self.stems)])
        return self.head(found.sum(0).relu())


def train(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(8, 3)).square().mean().backward()
        optimizer.step()


def checkpoint() -> io.BytesIO:
    """What the first process leaves, in which the set came in this order."""
    model = Channels(["red", "infrared", "green"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    train(model, optimizer)
    file = io.BytesIO()
    torch.save({"state_dict": model.state_dict(), "optimizer_states": [optimizer.state_dict()]}, file)
    file.seek(0)
    return file


def resume(names: Iterable[str]) -> None:
    model = Channels(names)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    saved = torch.load(checkpoint())
    model.load_state_dict(saved["state_dict"])
    optimizer.load_state_dict(saved["optimizer_states"][0])
    train(model, optimizer)


def wrong() -> None:
    resume(["infrared", "green", "red"])


def right() -> None:
    resume(["red", "infrared", "green"])
