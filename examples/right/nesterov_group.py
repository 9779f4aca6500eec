"""A group that asks for Nesterov's look-ahead brings the momentum along which to look.

It runs ahead of the plain group from the second step on.
"""

import torch

plain = torch.tensor(5.0, requires_grad=True)
eager = torch.tensor(5.0, requires_grad=True)

optimizer = torch.optim.SGD([plain], lr=0.01)
optimizer.add_param_group({"params": [eager], "momentum": 0.5, "nesterov": True})

for _ in range(10):
    optimizer.zero_grad()
    bowl = plain**2 + eager**2
    bowl.backward()
    optimizer.step()

lead = plain.item() - eager.item()
print(f"plain {plain.item():.4f}, eager {eager.item():.4f}: a lead of {lead:.4f}")
