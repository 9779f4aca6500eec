"""A part that should be frozen and is trained: the freeze went to a copy, or to a model that was replaced since."""

from __future__ import annotations

import copy

import torch
from torch import nn

CODE = "GL212"
OPTIONS = {"expect_frozen": ("backbone",)}


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(4, 8), nn.ReLU())
        self.head = nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.head(self.backbone(x))
        return y


def train(model: Classifier) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(4):
        x = torch.randn(16, 4)
        loss = nn.functional.cross_entropy(model(x), (x.sum(1) > 0).long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def wrong() -> None:
    model = Classifier()
    copy.deepcopy(model).backbone.requires_grad_(False)
    train(model)


def right() -> None:
    model = Classifier()
    model.backbone.requires_grad_(False)
    train(model)
