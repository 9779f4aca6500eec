"""A variable is given a new tensor after the optimizer took the old one.

The name now stands for a tensor that the optimizer has never seen: it collects gradients and stays put.
"""

import torch

angle = torch.tensor(0.0, requires_grad=True)
gain = torch.tensor(1.5, requires_grad=True)

optimizer = torch.optim.SGD([angle, gain], lr=0.1)
angle = torch.tensor(2.5, requires_grad=True)  # <- GL201

for _ in range(50):
    optimizer.zero_grad()
    miss = (angle - 0.5) ** 2 + (gain - 0.5) ** 2
    miss.backward()
    optimizer.step()

error = abs(angle.item() - 0.5)
print(f"angle {angle.item():.3f}, gain {gain.item():.3f}; both should be 0.5")
print(f"the angle that the optimizer holds: {optimizer.param_groups[0]['params'][0].item():.3f}")
