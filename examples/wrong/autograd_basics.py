"""What is tracked and what is not, with a look at the gradient of a value in the middle.

Only leaves keep their gradient. That of the value in between is dropped on the way, and reading it gives None.
"""

import warnings

import torch

base = torch.tensor(4.0, requires_grad=True)
slack = torch.tensor(6.0, requires_grad=True)
middle = base * 3
total = middle / 4 + slack * 2
with torch.no_grad():
    untracked = middle * total
print(f"total was made by {total.grad_fn.name()}, the product by {untracked.grad_fn}")

total.backward()
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    middle_grad = middle.grad  # <- GL406

known = sum(grad is not None for grad in (base.grad, slack.grad, middle_grad))
print(f"base {base.grad}, slack {slack.grad}, middle {middle_grad}: {known} of 3 known")
