"""What watching costs: training steps with and without the watcher, side by side in one run.

    python benchmarks/watch.py [--rounds 9] [--models a,b,c,d] [--variants ...]

Each round trains the same model once per variant, in an order that changes; the ratio to the plain loop is taken
within the round, and the median over the rounds is shown with the spread. `plain again` is the plain loop a second
time: its distance from 1 is the noise. CPU time of one thread, so that a busy machine counts little. A block begins
with the start of the watcher and its first 20 steps, which are checked in full, and so tells more than a long run costs.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gradcheck_lint import watch

Block = Callable[[nn.Module, torch.optim.Optimizer], contextlib.AbstractContextManager[Any]]


class Program(NamedTuple):
    """A model with its batch; `steps` are those of one block."""

    name: str
    model: Callable[[], nn.Module]
    batch: Callable[[], tuple[Tensor, Tensor]]
    optimizer: Callable[[Any], torch.optim.Optimizer]
    steps: int


class Residual(nn.Module):
    """Two convolutions and a way around them."""

    def __init__(self, width_in: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width_in, width, 3, stride, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(width),
        )
        self.way: nn.Module = nn.Identity()
        if stride != 1 or width_in != width:
            self.way = nn.Sequential(nn.Conv2d(width_in, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = torch.relu(self.body(x) + self.way(x))
        return out


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def narrow() -> nn.Module:
    return nn.Sequential(*(layer for _ in range(99) for layer in (nn.Linear(32, 32), nn.Tanh())), nn.Linear(32, 10))


def transformer() -> nn.Module:
    layer = nn.TransformerEncoderLayer(256, 4, 1024, dropout=0.1, batch_first=True)
    return nn.Sequential(nn.TransformerEncoder(layer, 6, enable_nested_tensor=False), nn.Linear(256, 10))


def convolutional() -> nn.Module:
    widths = ((64, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1), (256, 512, 2), (512, 512, 1))
    stem = (nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU())
    return nn.Sequential(*stem, *(Residual(*w) for w in widths), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))


def flat(*shape: int) -> Callable[[], tuple[Tensor, Tensor]]:
    return lambda: (torch.randn(*shape), torch.randint(10, shape[:-1] if len(shape) < 4 else shape[:1]))


PROGRAMS = {
    "a": Program("a  MLP 2x64, SGD", mlp, flat(64, 64), lambda p: torch.optim.SGD(p, 0.01, momentum=0.9), 1500),
    "b": Program("b  100 narrow layers, 200 parameters, Adam", narrow, flat(64, 32), lambda p: torch.optim.Adam(p, 1e-4), 150),
    "c": Program("c  transformer, 6 layers of 256, AdamW", transformer, flat(8, 64, 256), lambda p: torch.optim.AdamW(p, 1e-4), 30),
    "d": Program("d  ResNet-18 for 32x32 images, SGD", convolutional, flat(8, 3, 32, 32), lambda p: torch.optim.SGD(p, 0.01, momentum=0.9), 30),
}  # fmt: skip


@contextlib.contextmanager
def gradient_hooks(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """What tutorials advise: a hook on every parameter that takes the norm of its gradient."""
    norms: list[float] = []
    handles = [p.register_hook(lambda grad: norms.append(float(grad.norm()))) for p in model.parameters()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def wandb_watch(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """W&B's `watch` at its own rate (every 1000 calls logs), offline, and nothing is sent."""
    wandb = importlib.import_module("wandb")
    run = wandb.init(mode="disabled")
    wandb.watch(model, log="gradients", log_freq=50)
    try:
        yield
    finally:
        wandb.unwatch(model)
        run.finish()


def watching(**options: Any) -> Block:
    return lambda model, optimizer: watch(optimizer, on_finding="ignore", quiet=True, **options)


VARIANTS: dict[str, Block] = {
    "plain": lambda model, optimizer: contextlib.nullcontext(),
    "plain again": lambda model, optimizer: contextlib.nullcontext(),
    "watch": watching(),
    "watch deep": watching(level="deep"),
    "every step in full": watching(every=1),
    "detect_anomaly": lambda model, optimizer: torch.autograd.detect_anomaly(check_nan=True),
    "gradient hooks": gradient_hooks,
}


def train(program: Program, variant: Block) -> float:
    """Seconds of CPU for one step, over one block of steps, the watcher's own start and end included."""
    torch.manual_seed(0)
    model = program.model()
    optimizer = program.optimizer(model.parameters())
    x, y = program.batch()
    lossf = nn.CrossEntropyLoss()

    def step() -> None:
        optimizer.zero_grad()
        out = model(x)
        lossf(out.flatten(0, -2), y.flatten()).backward()
        optimizer.step()

    for _ in range(3):
        step()
    begin = time.thread_time()
    with variant(model, optimizer):
        for _ in range(program.steps):
            step()
    return (time.thread_time() - begin) / program.steps


def measure(program: Program, variants: dict[str, Block], rounds: int) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(rounds):
        names = list(variants)
        names = names[turn % len(names) :] + names[: turn % len(names)]
        for name in names:
            seconds[name].append(train(program, variants[name]))
    return seconds


def table(program: Program, seconds: dict[str, list[float]]) -> str:
    plain = seconds["plain"]
    lines = [f"{program.name}: {statistics.median(plain) * 1e6:,.0f} us for a plain step, {program.steps} steps a block"]
    lines.append(f"  {'variant':<20} {'ratio':>8} {'quartiles':>17} {'us a step':>12}")
    for name, values in seconds.items():
        ratios = sorted(value / base for value, base in zip(values, plain, strict=True))
        extra = statistics.median(value - base for value, base in zip(values, plain, strict=True)) * 1e6
        low, high = ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]
        lines.append(f"  {name:<20} {statistics.median(ratios):>8.4f} {low:>8.4f} {high:>8.4f} {extra:>+12.1f}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--models", default="a,b,c,d", help="some of a, b, c, d")
    parser.add_argument("--variants", default="", help="names after commas; all by default")
    options = parser.parse_args()
    variants = dict(VARIANTS)
    if importlib.util.find_spec("wandb"):
        variants["wandb.watch"] = wandb_watch
    if options.variants:
        variants = {name: variants[name] for name in ["plain", *options.variants.split(",")]}
    torch.set_num_threads(1)
    for key in options.models.split(","):
        print(table(PROGRAMS[key], measure(PROGRAMS[key], variants, options.rounds)), flush=True)


if __name__ == "__main__":
    main()
