"""Two stages of one model, of the same shape and with the same first weights: two models all the same."""

import torch
import torch.distributed as dist
from torch import nn

dist.init_process_group("gloo")
torch.manual_seed(0)
rank = dist.get_rank()
model = nn.Linear(4, 4)  # the same shape and seed in each stage, other data
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for _ in range(10):
    optimizer.zero_grad()
    if rank == 0:
        out = model(torch.randn(8, 4))
        dist.send(out.detach(), 1)
        grad = torch.empty(8, 4)
        dist.recv(grad, 1)
        out.backward(grad)
    else:
        x = torch.empty(8, 4)
        dist.recv(x, 0)
        x.requires_grad_()
        model(x).pow(2).mean().backward()
        dist.send(x.grad, 0)
    optimizer.step()
dist.destroy_process_group()
