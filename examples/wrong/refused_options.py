"""Options that contradict each other or themselves: a rate below zero, a look-ahead with no momentum to look along,
and a group that forgets its parameters.

torch refuses all three, so no optimizer is ever built.
"""

import torch

field = torch.ones(4, requires_grad=True)
built = 0

try:
    uphill = torch.optim.SGD([field], lr=-0.05)  # <- GL312
    built += 1
except ValueError as refusal:
    print(f"refused: {refusal}")

try:
    looking_ahead = torch.optim.SGD([field], lr=0.05, nesterov=True)  # <- GL312
    built += 1
except ValueError as refusal:
    print(f"refused: {refusal}")

try:
    empty_group = torch.optim.SGD([{"lr": 0.05}], lr=0.01)  # <- GL312
    built += 1
except KeyError as refusal:
    print(f"refused: no {refusal} in the group")

print(f"optimizers built: {built} of 3")
