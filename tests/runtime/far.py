"""A problem of another module, for tests: who trains it has no name for what it is made of, but the object itself."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def derivative(u: Tensor, x: Tensor) -> Tensor:
    (found,) = torch.autograd.grad(u, x, torch.ones_like(u), create_graph=True)
    return found


class Equation:
    """A network, and the points at which it should be its own derivative."""

    def __init__(self) -> None:
        self.net = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))
        self.points = torch.rand(16, 1, requires_grad=True)

    def loss(self) -> Tensor:
        u = self.net(self.points)
        return (derivative(u, self.points) - u).pow(2).mean()


def equation() -> Equation:
    return Equation()
