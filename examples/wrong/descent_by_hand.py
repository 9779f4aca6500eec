"""Down the parabola y = x * x with an optimizer, and a small nudge by hand that binds the variable to a new tensor.

After the first turn the optimizer holds a tensor that is no longer in use. Its steps do nothing from then on, and
only the nudges go on, far too slowly.
"""

import torch

nudge = 0.005
x = torch.tensor([2.0], requires_grad=True)
path = []

optimizer = torch.optim.SGD([x], lr=0.05)
for _ in range(100):
    optimizer.zero_grad()
    y = x[0] ** 2
    y.backward()
    optimizer.step()
    with torch.no_grad():
        x = x - nudge * x.grad  # <- GL201
        path.append((float(x[0]), float(x[0] ** 2)))
    x.requires_grad = True

print(f"after 10 turns at x = {path[9][0]:.4f}, after 100 at x = {path[-1][0]:.4f}")
distance = abs(x.item())
print(f"the optimizer still holds {optimizer.param_groups[0]['params'][0].item():.4f}")
