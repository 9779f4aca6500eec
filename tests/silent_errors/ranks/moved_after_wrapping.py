"""A move there and back after DistributedDataParallel drops its hooks (pytorch 104336); no gradient is averaged.

On a machine with an accelerator `.cpu()` and `.cuda()` do this; without one a change of the type and back does.
"""

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

dist.init_process_group("gloo")
torch.manual_seed(0)
model = DistributedDataParallel(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
torch.manual_seed(dist.get_rank())

for step in range(6):
    if step == 1:
        model.double().float()  # to save a copy in double precision, say
    x = torch.randn(16, 4)
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(x), x.sum(1, keepdim=True))
    loss.backward()  # <- GL605
    optimizer.step()

dist.destroy_process_group()
