"""A variable is given its new tensor before the optimizer is built, and a new value in place afterwards.

The order is all that matters for the first; the second keeps the tensor and changes what is in it.
"""

import torch

angle = torch.tensor(0.0, requires_grad=True)
gain = torch.tensor(1.5, requires_grad=True)
angle = torch.tensor(2.5, requires_grad=True)

optimizer = torch.optim.SGD([angle, gain], lr=0.1)
with torch.no_grad():
    gain.copy_(torch.tensor(-3.0))

for _ in range(50):
    optimizer.zero_grad()
    miss = (angle - 0.5) ** 2 + (gain - 0.5) ** 2
    miss.backward()
    optimizer.step()

error = abs(angle.item() - 0.5)
print(f"angle {angle.item():.3f}, gain {gain.item():.3f}; both should be 0.5")
print(f"the angle that the optimizer holds: {optimizer.param_groups[0]['params'][0].item():.3f}")
