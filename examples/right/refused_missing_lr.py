"""An optimizer whose learning rate has no default gets one for all groups, and one group has its own.

A group that names no rate takes the one of the call, and both parameters go down.
"""

import torch
from torch.optim.optimizer import Optimizer, required


class Slope(Optimizer):
    """Plain descent; a learning rate must come from the call or from each group."""

    def __init__(self, params, lr=required):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.add_(p.grad, alpha=-group["lr"])
        return loss


level = torch.tensor([6.0], requires_grad=True)
width = torch.tensor([6.0], requires_grad=True)
start = level.item()

optimizer = Slope([{"params": [level]}, {"params": [width], "lr": 0.3}], lr=0.1)
for _ in range(10):
    optimizer.zero_grad()
    area = (level**2 + width**2).sum()
    area.backward()
    optimizer.step()

moved = abs(level.item() - start)
print(f"level: {level.item():.3f}, moved by {moved:.3f}")
