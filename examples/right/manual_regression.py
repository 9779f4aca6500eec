"""Linear regression with nothing but tensors: gradients cleared by hand, an update by hand through `.data`.

No optimizer is needed. The first round has no gradient to clear yet, and from then on there is one each time.
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
    if slope.grad is not None:
        slope.grad.data.zero_()
    if offset.grad is not None:
        offset.grad.data.zero_()
    loss.backward()
    slope.data = slope.data - rate * slope.grad
    offset.data = offset.data - rate * offset.grad
    if (turn + 1) % 100 == 0:
        print(f"turn {turn + 1}: slope {slope.item():.3f}, offset {offset.item():.3f}, loss {loss.item():.5f}")

error = abs(slope.item() + 1.5) + abs(offset.item() - 2.0)
print(f"the line is off by {error:.4f}")
