"""A dict keeps the order in which things were put in."""

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

dist.init_process_group("gloo")
torch.manual_seed(0)
model = DistributedDataParallel(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)))
distinct = list(dict.fromkeys(model.parameters()))
optimizer = torch.optim.Adam(distinct, lr=0.1)
torch.manual_seed(dist.get_rank())

for _ in range(6):
    x = torch.randn(16, 4)
    optimizer.zero_grad()
    nn.functional.mse_loss(model(x), x.sum(1, keepdim=True)).backward()
    optimizer.step()

dist.destroy_process_group()
