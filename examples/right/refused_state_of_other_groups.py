"""The optimizer that goes on from a saved one is built with the same groups in the same order.

The state fits, momentum is there again, and the first step is as long as the last one was.
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

resumed = torch.optim.SGD([{"params": [left]}, {"params": [right]}], lr=0.001, momentum=0.9)
resumed.load_state_dict(saved)
resumed.zero_grad()

tension = left**2 + right**2
tension.backward()
resumed.step()
stride = (steady - left.item()) / (0.001 * 2 * steady)
print(f"the first step after loading is {stride:.2f} times a step without momentum")
