"""One parameter stands twice in the list that the optimizer gets.

torch only warns, and then updates that parameter twice in every step: its learning rate is silently doubled.
"""

import warnings

import torch

near = torch.tensor(10.0, requires_grad=True)
far = torch.tensor(10.0, requires_grad=True)

with warnings.catch_warnings(record=True) as heard:
    warnings.simplefilter("always")
    optimizer = torch.optim.SGD([near, far, near], lr=0.01)  # <- GL306
print(f"warned: {str(heard[0].message)[:66]}")

for _ in range(5):
    optimizer.zero_grad()
    distance = near**2 + far**2
    distance.backward()
    optimizer.step()

pace = (10.0 - near.item()) / (10.0 - far.item())
print(f"near went {10.0 - near.item():.3f}, far went {10.0 - far.item():.3f}: {pace:.2f} times the pace")
