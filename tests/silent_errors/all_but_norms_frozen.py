"""A fine-tuned language model of which only the norm layers learned: the condition of the freeze was turned round."""

from __future__ import annotations

import torch
from torch import nn

CODE = "GL304"


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(8)
        self.mix = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = x + torch.relu(self.mix(self.norm(x)))
        return y


def train(*, turned_round: bool) -> None:
    model = nn.Sequential(nn.Linear(4, 8), Block(), Block(), nn.LayerNorm(8), nn.Linear(8, 2))
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad = isinstance(module, nn.LayerNorm) is turned_round
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(4):
        x = torch.randn(16, 4)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), (x.sum(1) > 0).long()).backward()
        optimizer.step()


def wrong() -> None:
    train(turned_round=True)


def right() -> None:
    train(turned_round=False)
