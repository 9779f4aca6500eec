"""A line through one point, fitted by SGD with momentum, whose gradients are cleared before each backward pass.

Only the parameters track gradients; the point that was measured does not have to.
"""

import torch
from torch import nn

measured_at = torch.tensor(2.0)
measured = torch.tensor(7.0)
tilt = torch.tensor(0.5, requires_grad=True)
shift = torch.tensor(0.0, requires_grad=True)

optimizer = torch.optim.SGD([tilt, shift], lr=0.02, momentum=0.5)
criterion = nn.MSELoss()

for turn in range(60):
    optimizer.zero_grad()
    loss = criterion(tilt * measured_at + shift, measured)
    loss.backward()
    optimizer.step()
    if turn % 15 == 14:
        print(f"turn {turn + 1}: loss {loss.item():.4f}")

last_loss = loss.item()
