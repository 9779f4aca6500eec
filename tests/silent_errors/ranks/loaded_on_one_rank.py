"""Rank 0 loads a checkpoint into a model that is already wrapped, and so already copied to the others."""

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

dist.init_process_group("gloo")
torch.manual_seed(1)
checkpoint = nn.Linear(4, 1).state_dict()
torch.manual_seed(0)
model = DistributedDataParallel(nn.Linear(4, 1))
if dist.get_rank() == 0:
    model.module.load_state_dict(checkpoint)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)  # <- GL807
torch.manual_seed(dist.get_rank())

for _ in range(6):
    x = torch.randn(16, 4)
    optimizer.zero_grad()
    nn.functional.mse_loss(model(x), x.sum(1, keepdim=True)).backward()
    optimizer.step()

dist.destroy_process_group()
