"""A second network follows the trained one as a moving average of its weights.

The follower is a real copy, no optimizer holds it, and its weights are written in place through `.data`. That is
what `.data` is good for: the tensors stay the same, only their values change.
"""

import copy

import torch
from torch import nn

torch.manual_seed(13)
net = nn.Linear(2, 1)
follower = copy.deepcopy(net)
follower.requires_grad_(False)
optimizer = torch.optim.SGD(net.parameters(), lr=0.2)
wanted = torch.tensor([[3.0], [-2.0]])

for _ in range(150):
    batch = torch.randn(16, 2)
    noisy = batch @ wanted + torch.randn(16, 1)
    optimizer.zero_grad()
    loss = (net(batch) - noisy).pow(2).mean()
    loss.backward()
    optimizer.step()
    for slow, quick in zip(follower.parameters(), net.parameters(), strict=True):
        slow.data.mul_(0.95).add_(quick.data, alpha=0.05)

distance = (net.weight - wanted.T).norm().item()
followed = (follower.weight - wanted.T).norm().item()
print(f"distance from the truth: {distance:.3f} for the trained network, {followed:.3f} for its average")
