"""One parameter stands in two groups: once when the optimizer is built, once when a group is added later.

torch refuses both at once, so no step is ever made and the head stays as it was.
"""

import torch
from torch import nn

torch.manual_seed(2)
body = nn.Linear(4, 4)
head = nn.Linear(4, 1)
start = head.bias.item()
samples = torch.randn(24, 4)



def in_two_groups():
    """The bias of the head is in both groups."""
    return torch.optim.SGD([{"params": [body.weight, head.bias]}, {"params": [head.bias]}], lr=0.1)  # <- GL306


def added_again():
    """The bias of the body comes once more with the group that is added."""
    optimizer = torch.optim.SGD([body.weight, body.bias], lr=0.1)
    optimizer.add_param_group({"params": [head.weight, head.bias, body.bias], "lr": 0.01})  # <- GL306
    return optimizer


for build in (in_two_groups, added_again):
    try:
        optimizer = build()
        for _ in range(20):
            optimizer.zero_grad()
            loss = (head(body(samples)) - 2.0).pow(2).mean()
            loss.backward()
            optimizer.step()
    except ValueError as refusal:
        print(f"refused: {refusal}")

moved = abs(head.bias.item() - start)
print(f"the bias of the head moved by {moved:.4f}")
