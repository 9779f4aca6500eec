"""A rank skips the step of a batch that looks bad to it; the others make theirs."""

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

dist.init_process_group("gloo")
torch.manual_seed(0)
model = DistributedDataParallel(nn.Linear(4, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
torch.manual_seed(dist.get_rank())

for step in range(6):
    x = torch.randn(16, 4)
    if step == 3 and dist.get_rank() == 1:
        x *= 100  # a bad batch
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(x), x.sum(1, keepdim=True))
    loss.backward()
    if x.abs().max() < 50:
        optimizer.step()  # <- GL807

dist.destroy_process_group()
