"""A look inside an optimizer: its groups, its state, and both of them saved to a file and loaded again.

The gradient is written by hand once and used for fifty steps on purpose, so that momentum can be watched as it
grows towards ten gradients; nothing here needs a loss, a backward pass or any zeroing.
"""

import tempfile
from pathlib import Path

import torch

torch.manual_seed(8)
panel = torch.randn(2, 3, requires_grad=True)
panel.grad = torch.full((2, 3), 0.5)
before = panel.detach().clone()

optimizer = torch.optim.SGD([panel], lr=0.02, momentum=0.9)
optimizer.step()
print(f"one step moved the panel by {(before - panel).abs().max().item():.3f}")
print(f"the very same tensor: {optimizer.param_groups[0]['params'][0] is panel}")

strip = torch.zeros(4, requires_grad=True)
strip.grad = torch.ones(4)
optimizer.add_param_group({"params": strip, "lr": 0.001, "nesterov": True})
for number, group in enumerate(optimizer.param_groups):
    print(f"group {number}: lr {group['lr']}, momentum {group['momentum']}, nesterov {group['nesterov']}")

for _ in range(50):
    optimizer.step()
momentum = optimizer.state[panel]["momentum_buffer"].max().item()
print(f"momentum after fifty more steps: {momentum:.3f} (its limit is {0.5 / (1 - 0.9):.3f})")

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "optimizer.pt"
    torch.save(optimizer.state_dict(), path)
    resumed = torch.optim.SGD([{"params": [panel]}, {"params": [strip]}], lr=1.0)
    resumed.load_state_dict(torch.load(path))

kept = resumed.state[panel]["momentum_buffer"].max().item()
print(f"after loading: lr {resumed.param_groups[1]['lr']}, momentum {kept:.3f}")
