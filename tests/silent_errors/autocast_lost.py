"""Mixed precision that is asked for and never happens: Accelerate wraps `forward`, and training calls another method.

Accelerate issue 3689 and Lightning issue 16857 ask what becomes of it. `prepare` stands here for what Accelerate does.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

CODE = "GL510"


class Coder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
        self.decoder = nn.Linear(2, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x))

    def reconstruction(self, x: Tensor) -> Tensor:
        code = self.encoder(x)
        return (self.decoder(code).float() - x).square().mean()


def prepare(model: nn.Module) -> nn.Module:
    half = torch.autocast("cpu", dtype=torch.bfloat16)
    model.forward = half(model.forward)
    return model


def train(*, past_forward: bool) -> None:
    model = Coder()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    prepare(model)
    for _ in range(4):
        x = torch.randn(8, 6)
        optimizer.zero_grad()
        loss = model.reconstruction(x) if past_forward else (model(x).float() - x).square().mean()
        loss.backward()
        optimizer.step()


def wrong() -> None:
    train(past_forward=True)


def right() -> None:
    train(past_forward=False)
