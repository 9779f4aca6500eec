"""Weights in bfloat16 and a small learning rate: what pure bfloat16 fine-tuning reports as a loss that stands still."""

from __future__ import annotations

import torch
from torch import nn

CODE = "GL509"


def train(dtype: torch.dtype) -> None:
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8)).to(dtype)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-6)
    for _ in range(4):
        x = torch.randn(16, 64)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = nn.functional.cross_entropy(model(x.to(dtype)).float(), torch.randint(8, (16,)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def wrong() -> None:
    train(torch.bfloat16)


def right() -> None:
    train(torch.float32)
