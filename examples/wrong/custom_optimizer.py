"""An optimizer of our own whose step gives the name `p` a new tensor.

The name is forgotten at the end of the turn, the parameter was never touched, and nothing moves.
"""

import torch
from torch.optim import Optimizer


class Downhill(Optimizer):
    """Steepest descent and no more."""

    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                p = p - group["lr"] * p.grad  # <- GL204
        return loss


ball = torch.tensor([1.5, -2.0], requires_grad=True)
optimizer = Downhill([ball], lr=0.1)


def valley():
    return (ball**2).sum()


for _ in range(30):
    optimizer.zero_grad()
    depth = valley()
    depth.backward()
    optimizer.step()
print(f"after 30 steps the ball lies at {[round(place, 4) for place in ball.tolist()]}")


def look():
    optimizer.zero_grad()
    height = valley()
    height.backward()
    return height


for _ in range(30):
    last = optimizer.step(look)
height = last.item()
print(f"after 30 more with a closure the height is {height:.6f}")
