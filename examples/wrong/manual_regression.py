"""Linear regression with nothing but tensors: an update by hand through `.data`, and gradients never cleared.

`.grad` is a running sum. Each update repeats all earlier ones, and the line swings about instead of settling.
"""

import torch

torch.manual_seed(17)
rate = 0.1
seen = torch.rand(200, 1)
answer = -1.5 * seen + 2.0
slope = torch.rand(1, 1, requires_grad=True)
offset = torch.tensor(0.0, requires_grad=True)

for turn in range(400):
    guess = torch.matmul(seen, slope) + offset
    loss = (answer - guess).pow(2).mean()
    loss.backward()  # later: GL101
    slope.data = slope.data - rate * slope.grad
    offset.data = offset.data - rate * offset.grad
    if (turn + 1) % 100 == 0:
        print(f"turn {turn + 1}: slope {slope.item():.3f}, offset {offset.item():.3f}, loss {loss.item():.5f}")

error = abs(slope.item() + 1.5) + abs(offset.item() - 2.0)
print(f"the line is off by {error:.4f}")
