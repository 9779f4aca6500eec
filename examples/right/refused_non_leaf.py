"""Tensors are scaled and converted first, and asked to track gradients last.

What is handed over is then a leaf, on which gradients gather, and the loss goes to nearly nothing.
"""

import torch

torch.manual_seed(5)
target = torch.tensor([1.0, -1.0, 0.5])
small = (torch.randn(3) * 0.01).requires_grad_()
exact = torch.zeros(3, dtype=torch.float64, requires_grad=True)
print(f"leaves: {small.is_leaf}, {exact.is_leaf}")
first_loss = ((small - target) ** 2).sum().item() + ((exact - target) ** 2).sum().item()

optimizer = torch.optim.SGD([small, exact], lr=0.1)
for _ in range(40):
    optimizer.zero_grad()
    loss = ((small - target) ** 2).sum() + ((exact - target) ** 2).sum()
    loss.backward()
    optimizer.step()

last_loss = ((small - target) ** 2).sum().item() + ((exact - target) ** 2).sum().item()
print(f"loss: {first_loss:.4f} at first, {last_loss:.4f} at last")
loss_ratio = last_loss / first_loss
