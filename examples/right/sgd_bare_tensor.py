"""One tensor is handed to the optimizer in a list of length one.

The brackets are all that torch asks for, and the height settles where the energy is lowest.
"""

import torch

height = torch.tensor(12.0, requires_grad=True)
start = height.item()

optimizer = torch.optim.SGD([height], lr=0.2)
for _ in range(25):
    optimizer.zero_grad()
    energy = (height - 3.0) ** 2
    energy.backward()
    optimizer.step()

moved = abs(height.item() - start)
print(f"height: {height.item():.3f} (the lowest energy is at 3), moved by {moved:.3f}")
