"""Two layers begin with the same values because these are copied into both.

Each keeps its own memory, and from there they learn different things.
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
with torch.no_grad():
    pair.left.weight.copy_(start)
    pair.right.weight.copy_(start)

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
