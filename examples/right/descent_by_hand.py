"""Down the parabola y = x * x by hand, with the variable bound to a new tensor in every turn.

There is no optimizer that could be left behind. The new tensor is made under `no_grad`, so it is a leaf, and it only
has to be told to track gradients again.
"""

import torch

rate = 0.05
x = torch.tensor([2.0], requires_grad=True)
path = []

for _ in range(100):
    y = x[0] ** 2
    y.backward()
    with torch.no_grad():
        x = x - rate * x.grad
        path.append((float(x[0]), float(x[0] ** 2)))
    x.requires_grad = True

print(f"after 10 turns at x = {path[9][0]:.4f}, after 100 at x = {path[-1][0]:.4f}")
distance = abs(x.item())
