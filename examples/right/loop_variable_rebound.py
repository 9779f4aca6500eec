"""The parameters of a model are updated by hand, in place and under `no_grad`.

`-=` writes into the tensor that the model holds, and the loss falls.
"""

import torch
from torch import nn

torch.manual_seed(9)
grid = torch.linspace(0, 3, 40).unsqueeze(1)
wave = torch.sin(grid)
model = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 1))
losses = []

for _ in range(200):
    model.zero_grad()
    loss = (model(grid) - wave).pow(2).mean()
    loss.backward()
    losses.append(loss.item())
    with torch.no_grad():
        for p in model.parameters():
            p -= 0.1 * p.grad

loss_ratio = losses[-1] / losses[0]
print(f"loss {losses[0]:.4f} at first, {losses[-1]:.4f} at last")
