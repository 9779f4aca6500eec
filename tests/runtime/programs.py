"""Twelve and more ways to train, each a function that gives what it has made: for what must not change under watch."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - as everybody calls it
from torch.utils.data import DataLoader, TensorDataset

Made = list[Any]
STEPS = 25  # more than the watcher checks at first, so that it sleeps and wakes


def batches(*shape: int, classes: int = 3, steps: int = STEPS) -> Iterator[tuple[Tensor, Tensor]]:
    for _ in range(steps):
        yield torch.randn(*shape), torch.randint(classes, shape[:1])


def net(width: int = 6, classes: int = 3) -> nn.Module:
    return nn.Sequential(nn.Linear(width, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, classes))


def momentum() -> Made:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3, nesterov=True)
    for x, y in batches(8, 6):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    return [model, optimizer]


def adam_with_schedule_and_clipping() -> Made:
    model = net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=STEPS)
    for x, y in batches(8, 6):
        model.train()
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        schedule.step()
    return [model, optimizer, schedule.state_dict()]


def lbfgs() -> Made:
    model = nn.Linear(4, 1)
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=4)
    x = torch.randn(16, 4)
    y = x.sum(1, keepdim=True)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.mse_loss(model(x), y)
        loss.backward()
        return loss

    losses = [optimizer.step(closure) for _ in range(6)]
    return [model, optimizer, losses]


def mixed_precision() -> Made:
    model = net()
    optimizer = torch.optim.Adam(model.parameters())
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40, growth_interval=3)  # the first steps overflow
    for x, y in batches(8, 6):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = F.cross_entropy(model(x).float(), y)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
    return [model, optimizer, scaler.state_dict()]


def adversaries() -> Made:
    maker, critic = nn.Linear(2, 4), nn.Sequential(nn.Linear(4, 4), nn.LeakyReLU(), nn.Linear(4, 1))
    makes, judges = torch.optim.Adam(maker.parameters()), torch.optim.RMSprop(critic.parameters())
    for _ in range(STEPS):
        fake = maker(torch.randn(8, 2))
        judges.zero_grad()
        (F.softplus(critic(fake.detach())) + F.softplus(-critic(torch.randn(8, 4)))).mean().backward()
        judges.step()
        makes.zero_grad()
        F.softplus(-critic(fake)).mean().backward()
        makes.step()
    return [maker, critic, makes, judges]


def recurrent() -> Made:
    model = nn.LSTM(3, 5, num_layers=2, dropout=0.2, batch_first=True)
    optimizer = torch.optim.Adagrad(model.parameters(), lr=0.05)
    state = None
    for _ in range(STEPS):
        out, state = model(torch.randn(4, 7, 3), state)
        state = tuple(part.detach() for part in state)
        optimizer.zero_grad()
        out.square().mean().backward()
        optimizer.step()
    return [model, optimizer]


def accumulation() -> Made:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for index, (x, y) in enumerate(batches(8, 6, steps=4 * STEPS)):
        (F.cross_entropy(model(x), y) / 4).backward()
        if index % 4 == 3:
            optimizer.step()
            optimizer.zero_grad(set_to_none=False)
    return [model, optimizer]


def compiled() -> Made:
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    fast = torch.compile(model, backend="aot_eager")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x, y in batches(8, 6):
        optimizer.zero_grad()
        F.cross_entropy(fast(x), y).backward()
        optimizer.step()
    return [model, optimizer]


def distributed() -> Made:
    import torch.distributed as dist

    def train() -> Made:
        model = nn.parallel.DistributedDataParallel(net())
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for x, y in batches(8, 6):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
        return [model.module, optimizer]

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        # The wrapper has to go before the group does: if it is the last to let go of it, torch waits for a thread of
        # the group while it holds the lock that this thread may want, now and then for ever.
        return train()
    finally:
        gc.collect()
        dist.destroy_process_group()


def sparse() -> Made:
    table = nn.Embedding(20, 4, sparse=True)
    optimizer = torch.optim.SparseAdam(table.parameters())
    for _ in range(STEPS):
        optimizer.zero_grad()
        table(torch.randint(20, (6,))).square().sum().backward()
        optimizer.step()
    return [table, optimizer]


def step_in_backward() -> Made:
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    optimizers = {p: torch.optim.SGD([p], lr=0.1, momentum=0.9) for p in model.parameters()}

    def hook(parameter: Tensor) -> None:
        optimizers[parameter].step()
        optimizers[parameter].zero_grad()

    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(hook)
    for x, y in batches(8, 6):
        F.cross_entropy(model(x), y).backward()
    return [model, *optimizers.values()]


def loader_with_workers() -> Made:
    data = TensorDataset(torch.randn(48, 6), torch.randint(3, (48,)))
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    for _ in range(4):
        for x, y in DataLoader(data, batch_size=8, shuffle=True, num_workers=1):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            model(torch.randn(4, 6))
        model.train()
    return [model, optimizer]


def by_hand() -> Made:
    w, b = torch.randn(4, 1, requires_grad=True), torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([{"params": [w]}, {"params": [b], "lr": 0.01}], lr=0.1)
    for x, _ in batches(8, 4):
        loss = (x @ w + b - x.sum(1, keepdim=True)).square().mean()
        for tensor in (w, b):
            tensor.grad = None
        loss.backward()
        optimizer.step()
    return [w, b, optimizer]


def resumed() -> Made:
    import copy

    model = net()
    optimizer = torch.optim.Adam(model.parameters(), foreach=True, amsgrad=True)
    saved: list[Any] = []
    for index, (x, y) in enumerate(batches(8, 6)):
        if index == 10:
            saved = copy.deepcopy([model.state_dict(), optimizer.state_dict()])
        if index == 20:
            model.load_state_dict(saved[0])
            optimizer.load_state_dict(saved[1])
        model.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    return [model, optimizer]


PROGRAMS: list[Callable[[], Made]] = [
    momentum, adam_with_schedule_and_clipping, lbfgs, mixed_precision, adversaries, recurrent, accumulation, compiled,
    distributed, sparse, step_in_backward, loader_with_workers, by_hand, resumed,
]  # fmt: skip


def tensors(thing: Any) -> list[Any]:
    """Everything in it that training has made, in a fixed order."""
    if isinstance(thing, nn.Module):
        return tensors(thing.state_dict())
    if isinstance(thing, torch.optim.Optimizer):
        return tensors(thing.state_dict())
    if isinstance(thing, dict):
        return [part for key, value in thing.items() for part in (str(key), *tensors(value))]
    if isinstance(thing, (list, tuple)):
        return [part for piece in thing for part in tensors(piece)]
    return [thing]
