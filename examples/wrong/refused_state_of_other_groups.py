"""A saved optimizer had two groups; the one that shall go on from it has a single group.

torch refuses to load. Going on all the same means starting with no momentum: the first step is a small one.
"""

import torch

left = torch.tensor(20.0, requires_grad=True)
right = torch.tensor(20.0, requires_grad=True)

optimizer = torch.optim.SGD([{"params": [left]}, {"params": [right], "lr": 0.002}], lr=0.001, momentum=0.9)
for _ in range(15):
    optimizer.zero_grad()
    tension = left**2 + right**2
    tension.backward()
    optimizer.step()
saved = optimizer.state_dict()
steady = left.item()

resumed = torch.optim.SGD([left, right], lr=0.001, momentum=0.9)
try:
    resumed.load_state_dict(saved)  # <- GL210
except ValueError as refusal:
    print(f"refused: {refusal}")
resumed.zero_grad()

tension = left**2 + right**2
tension.backward()
resumed.step()
stride = (steady - left.item()) / (0.001 * 2 * steady)
print(f"the first step after loading is {stride:.2f} times a step without momentum")
