"""The same three wishes in a form that torch takes.

Going uphill is `maximize`, looking ahead needs a momentum, and a group names its parameters.
"""

import torch

field = torch.ones(4, requires_grad=True)
built = 0

uphill = torch.optim.SGD([field], lr=0.05, maximize=True)
built += 1
looking_ahead = torch.optim.SGD([field], lr=0.05, momentum=0.8, nesterov=True)
built += 1
full_group = torch.optim.SGD([{"params": [field], "lr": 0.05}], lr=0.01)
built += 1

print(f"optimizers built: {built} of 3")
