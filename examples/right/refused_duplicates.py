"""Each parameter stands once in the list; one that shall learn faster gets a group with a rate of its own.

Two parameters in the same place then go the same way, and the second part shows a doubled rate that is meant.
"""

import torch

near = torch.tensor(10.0, requires_grad=True)
far = torch.tensor(10.0, requires_grad=True)

optimizer = torch.optim.SGD([near, far], lr=0.01)
for _ in range(5):
    optimizer.zero_grad()
    distance = near**2 + far**2
    distance.backward()
    optimizer.step()

pace = (10.0 - near.item()) / (10.0 - far.item())
print(f"near went {10.0 - near.item():.3f}, far went {10.0 - far.item():.3f}: {pace:.2f} times the pace")

quick = torch.tensor(10.0, requires_grad=True)
calm = torch.tensor(10.0, requires_grad=True)
grouped = torch.optim.SGD([{"params": [quick], "lr": 0.02}, {"params": [calm]}], lr=0.01)
for _ in range(5):
    grouped.zero_grad()
    distance = quick**2 + calm**2
    distance.backward()
    grouped.step()
print(f"with a rate of its own: {(10.0 - quick.item()) / (10.0 - calm.item()):.2f} times the pace")
