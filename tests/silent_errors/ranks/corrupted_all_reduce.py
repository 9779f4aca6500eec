"""An all-reduce by hand that gets one gradient wrong (pytorch 84803): what is reduced is a copy of it."""

import torch
import torch.distributed as dist
from torch import nn

dist.init_process_group("gloo")
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
torch.manual_seed(dist.get_rank())

for _ in range(6):
    x = torch.randn(16, 4)
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(x), x.sum(1, keepdim=True))
    loss.backward()  # <- GL807
    for parameter in model.parameters():
        grad = parameter.grad
        if grad.dim() > 1:
            grad = grad.t().contiguous()  # a copy for all but the last weight, of one row
        dist.all_reduce(grad)
        parameter.grad /= dist.get_world_size()
    optimizer.step()

dist.destroy_process_group()
