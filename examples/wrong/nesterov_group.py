"""A group that asks for Nesterov's look-ahead joins an optimizer without momentum.

torch refuses this when an optimizer is built and lets it through when a group is added. With no momentum there is
nothing to look along, so the group moves exactly like one that never asked.
"""

import torch

plain = torch.tensor(5.0, requires_grad=True)
eager = torch.tensor(5.0, requires_grad=True)

optimizer = torch.optim.SGD([plain], lr=0.01)
optimizer.add_param_group({"params": [eager], "nesterov": True})  # <- GL312

for _ in range(10):
    optimizer.zero_grad()
    bowl = plain**2 + eager**2
    bowl.backward()
    optimizer.step()

lead = plain.item() - eager.item()
print(f"plain {plain.item():.4f}, eager {eager.item():.4f}: a lead of {lead:.4f}")
