"""Linear regression with a module and SGD: clear, backward, step.

The loss falls and stays down.
"""

import torch
from torch import nn, optim


class Straight(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def forward(self, x):
        return self.layer(x)


torch.manual_seed(30)
x = torch.rand(300, 1)
y = 4 * x - 1
model = Straight()
optimizer = optim.SGD(model.parameters(), lr=0.1)
loss_function = nn.MSELoss()

for turn in range(300):
    loss = loss_function(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if turn % 75 == 74:
        print(f"turn {turn + 1}: loss {loss.item():.5f}")

last_loss = loss.item()
print(f"slope {model.layer.weight.item():.3f} (should be 4), offset {model.layer.bias.item():.3f} (should be -1)")
