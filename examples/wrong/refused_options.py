"""Options that contradict each other or themselves: a rate below zero, a look-ahead with no momentum to look along,
and a group that forgets its parameters.

torch refuses all three, so no optimizer is ever built.
"""

import torch

field = torch.ones(4, requires_grad=True)


def uphill():
    """A rate below zero."""
    return torch.optim.SGD([field], lr=-0.05)  # <- GL312


def looking_ahead():
    """Nesterov's look-ahead without momentum."""
    return torch.optim.SGD([field], lr=0.05, nesterov=True)  # <- GL312


def empty_group():
    """A group that forgets its parameters."""
    return torch.optim.SGD([{"lr": 0.05}], lr=0.01)  # <- GL312


built = 0
for build in (uphill, looking_ahead, empty_group):
    try:
        build()
        built += 1
    except (ValueError, KeyError) as refusal:
        print(f"refused: {refusal}")

print(f"optimizers built: {built} of 3")
