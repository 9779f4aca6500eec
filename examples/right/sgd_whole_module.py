"""The parameters of a module are handed over by calling `parameters()`, which needs no brackets around it.

The call gives something to iterate over, and the loss goes to nearly nothing.
"""

import torch
from torch import nn

torch.manual_seed(11)
inputs = torch.linspace(-1, 1, 32).unsqueeze(1)
targets = 2.0 * inputs + 0.5
net = nn.Linear(1, 1)
first_loss = nn.functional.mse_loss(net(inputs), targets).item()

optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for _ in range(120):
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(net(inputs), targets)
    loss.backward()
    optimizer.step()

last_loss = loss.item()
print(f"loss: {first_loss:.4f} at first, {last_loss:.4f} at last")
loss_ratio = last_loss / first_loss
