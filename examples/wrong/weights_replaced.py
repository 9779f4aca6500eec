"""Weights of a layer are replaced by a new Parameter after the optimizer was built.

The forward pass uses the new weights, the optimizer keeps the old ones, and the layer never learns a thing.
"""

import torch
from torch import nn


class Sketch(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(3, 5)
        self.out = nn.Linear(5, 1)

    def forward(self, points):
        return self.out(torch.tanh(self.hidden(points)))


torch.manual_seed(21)
points = torch.randn(64, 3)
heights = points[:, :1] - points[:, 1:2]
net = Sketch()
for name, parameter in net.named_parameters():
    print(f"{name}: tracks gradients: {parameter.requires_grad}")

optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
start = torch.full((5, 3), 0.25)
net.hidden.weight = nn.Parameter(start)  # <- GL201
print(f"still the optimizer's: {net.hidden.weight is optimizer.param_groups[0]['params'][0]}")

for _ in range(200):
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(net(points), heights)
    loss.backward()
    optimizer.step()

moved = (net.hidden.weight - 0.25).abs().max().item()
print(f"loss {loss.item():.4f}; the hidden weights moved by {moved:.4f}")
