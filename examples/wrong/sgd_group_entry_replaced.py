"""A new tensor is put into the optimizer's own list, to give a variable another value.

The list changes and the variable does not: the loss is still computed from the old tensor, the optimizer waits
for gradients of the new one, and neither of them ever moves.
"""

import torch

pull = torch.tensor(4.0, requires_grad=True)
push = torch.tensor(-2.0, requires_grad=True)

optimizer = torch.optim.SGD([pull, push], lr=0.5)
optimizer.param_groups[0]["lr"] = 0.1
optimizer.param_groups[0]["params"][0] = torch.tensor(7.0, requires_grad=True)  # <- GL203
print(f"the optimizer holds {optimizer.param_groups[0]['params'][0].item()}, the variable is {pull.item()}")

for _ in range(40):
    optimizer.zero_grad()
    strain = (pull - 1.0) ** 2 + (push - 1.0) ** 2
    strain.backward()
    optimizer.step()

held = optimizer.param_groups[0]["params"][0].item()
error = abs(pull.item() - 1.0)
print(f"after 40 steps: pull {pull.item():.3f} (held: {held:.3f}), push {push.item():.3f}; both should be 1")
