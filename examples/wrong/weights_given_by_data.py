"""Two layers begin with the same values because a Parameter is assigned to the `.data` of both.

An assignment to `.data` takes over the memory of what is assigned: the layers do not begin equal, they are one.
Every step writes twice to the same place, and the two can never learn different things.
"""

import torch
from torch import nn


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.left = nn.Linear(2, 1)
        self.right = nn.Linear(2, 1)

    def forward(self, x):
        return self.left(x), self.right(x)


torch.manual_seed(4)
x = torch.randn(50, 2)
sums, differences = x[:, :1] + x[:, 1:], x[:, :1] - x[:, 1:]
pair = Pair()
optimizer = torch.optim.SGD(pair.parameters(), lr=0.1)

start = torch.full((1, 2), 0.3)
pair.left.weight.data = nn.Parameter(start)  # <- GL205
pair.right.weight.data = nn.Parameter(start)  # <- GL205

for _ in range(60):
    optimizer.zero_grad()
    left, right = pair(x)
    loss = (left - sums).pow(2).mean() + (right - differences).pow(2).mean()
    loss.backward()
    optimizer.step()

apart = (pair.left.weight - pair.right.weight).abs().max().item()
print(f"left {pair.left.weight.tolist()}, should be [[1, 1]]")
print(f"right {pair.right.weight.tolist()}, should be [[1, -1]]")
print(f"apart by {apart:.3f}, loss {loss.item():.4f}")
