"""One tensor is handed to the optimizer as it is, where a list of tensors is wanted.

torch refuses it at once, so not a single step is made and the height stays where it was.
"""

import torch

height = torch.tensor(12.0, requires_grad=True)
start = height.item()



def descend():
    """25 steps towards the lowest energy."""
    optimizer = torch.optim.SGD(height, lr=0.2)  # <- GL302
    for _ in range(25):
        optimizer.zero_grad()
        energy = (height - 3.0) ** 2
        energy.backward()
        optimizer.step()


try:
    descend()
except TypeError as refusal:
    print(f"refused: {refusal}")

moved = abs(height.item() - start)
print(f"height: {height.item():.3f} (the lowest energy is at 3), moved by {moved:.3f}")
