"""A module, and then its method without a call, are handed over in place of its parameters.

Neither can be iterated over, torch refuses both, and the loss is the same at the end as at the start.
"""

import torch
from torch import nn

torch.manual_seed(11)
inputs = torch.linspace(-1, 1, 32).unsqueeze(1)
targets = 2.0 * inputs + 0.5
net = nn.Linear(1, 1)
first_loss = nn.functional.mse_loss(net(inputs), targets).item()



def by_module():
    """The module itself."""
    return torch.optim.SGD(net, lr=0.1)  # <- GL302


def by_method():
    """The method that gives the parameters, not called."""
    return torch.optim.SGD(net.parameters, lr=0.1)  # <- GL302


for build in (by_module, by_method):
    try:
        build()
    except TypeError as refusal:
        print(f"refused: {refusal}")

last_loss = nn.functional.mse_loss(net(inputs), targets).item()
print(f"loss: {first_loss:.4f} at first, {last_loss:.4f} at last")
loss_ratio = last_loss / first_loss
