"""A variable that an optimizer holds is given another value in place, and the rate is written into its group.

There is still one tensor with two names for it, so the optimizer and the loss speak about the same one.
"""

import torch

pull = torch.tensor(4.0, requires_grad=True)
push = torch.tensor(-2.0, requires_grad=True)

optimizer = torch.optim.SGD([pull, push], lr=0.5)
optimizer.param_groups[0]["lr"] = 0.1
with torch.no_grad():
    pull.fill_(7.0)
print(f"the optimizer holds {optimizer.param_groups[0]['params'][0].item()}, the variable is {pull.item()}")

for _ in range(40):
    optimizer.zero_grad()
    strain = (pull - 1.0) ** 2 + (push - 1.0) ** 2
    strain.backward()
    optimizer.step()

held = optimizer.param_groups[0]["params"][0].item()
error = abs(pull.item() - 1.0)
print(f"after 40 steps: pull {pull.item():.3f} (held: {held:.3f}), push {push.item():.3f}; both should be 1")
