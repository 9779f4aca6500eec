"""Tensors that were computed from a leaf are handed over: scaled in one case, converted in the other.

Gradients gather on the leaves behind them, which nobody holds. torch refuses, and the loss stays as it is.
"""

import torch

torch.manual_seed(5)
target = torch.tensor([1.0, -1.0, 0.5])
small = torch.randn(3, requires_grad=True) * 0.01  # <- GL303
exact = torch.zeros(3, requires_grad=True).double()  # <- GL303
print(f"leaves: {small.is_leaf}, {exact.is_leaf}")
first_loss = ((small - target) ** 2).sum().item() + ((exact - target) ** 2).sum().item()



def optimize(tensor):
    """An optimizer for one tensor."""
    return torch.optim.SGD([tensor], lr=0.1)


for tensor in (small, exact):
    try:
        optimize(tensor)
    except ValueError as refusal:
        print(f"refused: {refusal}")

last_loss = ((small - target) ** 2).sum().item() + ((exact - target) ** 2).sum().item()
print(f"loss: {first_loss:.4f} at first, {last_loss:.4f} at last")
loss_ratio = last_loss / first_loss
