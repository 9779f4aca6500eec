"""Two groups with rates of their own, and no parameter in both.

The second group is added later, when the head shall begin to learn, and then both of them train.
"""

import torch
from torch import nn

torch.manual_seed(2)
body = nn.Linear(4, 4)
head = nn.Linear(4, 1)
start = head.bias.item()
samples = torch.randn(24, 4)

optimizer = torch.optim.SGD([body.weight, body.bias], lr=0.1)
optimizer.add_param_group({"params": [head.weight, head.bias], "lr": 0.01})

for _ in range(20):
    optimizer.zero_grad()
    loss = (head(body(samples)) - 2.0).pow(2).mean()
    loss.backward()
    optimizer.step()

moved = abs(head.bias.item() - start)
print(f"groups: {len(optimizer.param_groups)}; the bias of the head moved by {moved:.4f}")
