"""What watching costs: training steps with and without the watcher, side by side in one run.

    python benchmarks/watch.py [--rounds 9] [--models a,b,c,d] [--variants ...]

Each round trains the same model once per variant, in an order that changes; the ratio to the plain loop is taken
within the round, and the median over the rounds is shown with the spread. `plain again` is the plain loop a second
time: its distance from 1 is the noise. CPU time of one thread, so that a busy machine counts little. What starts and
stops once for a run is told apart, in milliseconds. A block begins with the first 20 steps, which are checked
thoroughly, and so tells more than a long run costs. W&B and Cockpit take part where they are installed.

Below that stands what the watcher says of itself (`record.watching` over `record.seconds`), free of the noise.

After that each kind of step is told by itself: the median of single steps, next to that of plain ones around them.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import inspect
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gradcheck_lint import watch

Backward = Callable[[int, Tensor, Tensor, Tensor], None]  # step, outputs, targets, loss
Block = Callable[[nn.Module, torch.optim.Optimizer], contextlib.AbstractContextManager[Any]]
"""Around the steps of a block; one that needs to call `backward` by itself gives a Backward."""


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
    widths = (
        (64, 64, 1),
        (64, 64, 1),
        (64, 128, 2),
        (128, 128, 1),
        (128, 256, 2),
        (256, 256, 1),
        (256, 512, 2),
        (512, 512, 1),
    )
    stem = (nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU())
    return nn.Sequential(
        *stem, *(Residual(*w) for w in widths), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10)
    )


def flat(*shape: int) -> Callable[[], tuple[Tensor, Tensor]]:
    return lambda: (torch.randn(*shape), torch.randint(10, shape[:-1] if len(shape) < 4 else shape[:1]))


PROGRAMS = {
    "a": Program("a  MLP 2x64, SGD", mlp, flat(64, 64), lambda p: torch.optim.SGD(p, 0.01, momentum=0.9), 6000),
    "b": Program("b  100 narrow layers, 200 parameters, Adam", narrow, flat(64, 32), torch.optim.Adam, 600),
    "c": Program("c  transformer, 6 layers of 256, AdamW", transformer, flat(8, 64, 256), torch.optim.AdamW, 60),
    "d": Program("d  ResNet-18, 32x32", convolutional, flat(8, 3, 32, 32), lambda p: torch.optim.SGD(p, 0.01), 60),
}


@contextlib.contextmanager
def gradient_hooks(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """What tutorials advise: a hook on every parameter that takes the norm of its gradient."""
    norms: list[float] = []
    handles: list[Any] = []
    for p in model.parameters():
        handles.append(p.register_hook(lambda grad: norms.append(float(grad.norm()))))  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def wandb_watch(every: int) -> Block:
    """W&B's `watch` of the gradients, in a run that is sent nowhere. As it comes, it logs each 1000th step."""

    @contextlib.contextmanager
    def block(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[None]:
        wandb = importlib.import_module("wandb")
        with tempfile.TemporaryDirectory() as folder:
            run = wandb.init(mode="offline", dir=folder, settings=wandb.Settings(silent=True))
            wandb.watch(model, log_freq=every)
            try:
                yield
            finally:
                wandb.unwatch(model)
                run.finish()

    return block


@contextlib.contextmanager
def cockpit(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[Backward]:
    """Cockpit with its least costly configuration, "economy"."""
    backpack = importlib.import_module("backpack")
    configuration = importlib.import_module("cockpit.utils.configuration")
    instruments = importlib.import_module("cockpit").Cockpit
    backpack.extend(model)
    mean, single = backpack.extend(nn.CrossEntropyLoss()), nn.CrossEntropyLoss(reduction="none")
    watcher = instruments(model.parameters(), quantities=configuration.configuration("economy"))

    def backward(number: int, out: Tensor, y: Tensor, loss: Tensor) -> None:
        loss = mean(out, y)
        info = {"batch_size": len(y), "individual_losses": single(out, y), "loss": loss, "optimizer": optimizer}
        with watcher(number, info=info):
            torch.autograd.backward(loss, create_graph=watcher.create_graph(number))

    yield backward


def watching(**options: Any) -> Block:
    return lambda model, optimizer: watch(optimizer, on_finding="ignore", quiet=True, **options)


VARIANTS: dict[str, Block] = {
    "plain": lambda model, optimizer: contextlib.nullcontext(),
    "plain again": lambda model, optimizer: contextlib.nullcontext(),
    "watch": watching(),
    "watch deep": watching(level="deep"),
    "watch every step": watching(every=1),
    "detect_anomaly": lambda model, optimizer: torch.autograd.detect_anomaly(check_nan=True),
    "gradient hooks": gradient_hooks,
}


KINDS: dict[str, tuple[Block, Callable[[int], bool]]] = {
    "plain again": (VARIANTS["plain"], lambda number: number > 20),
    "asleep": (watching(every=1000), lambda number: 20 < number < 990),
    "checked": (watching(every=1), lambda number: number > 20 and number % 50 != 0),
    "sample": (watching(every=1), lambda number: number > 20 and number % 50 == 0),
    "sample, deep": (watching(every=1, level="deep"), lambda number: number > 20 and number % 50 == 0),
    "of the first 20": (watching(), lambda number: number <= 20),
}
"""The kinds of steps that a watched run has, and which steps of a block of such a run are of that kind."""


def train(program: Program, variant: Block, steps: int = 0) -> tuple[list[float], float]:
    """Seconds of CPU for the steps of one block, and for what comes before and after the block.

    With `steps` each of so many is measured by itself.
    """
    torch.manual_seed(0)
    model = program.model()
    optimizer = program.optimizer(model.parameters())
    x, y = program.batch()
    lossf = nn.CrossEntropyLoss()
    targets = y.flatten()
    backward: Backward | None = None

    def step(number: int) -> None:
        optimizer.zero_grad()
        out = model(x).flatten(0, -2)
        loss = lossf(out, targets)
        if backward is None:
            loss.backward()
        else:
            backward(number, out, targets, loss)
        optimizer.step()

    for number in range(3):
        step(number)
    begin = time.thread_time()
    with variant(model, optimizer) as given:
        backward = given if inspect.isfunction(given) else None
        marks = [time.thread_time()]
        for number in range(steps or program.steps):
            step(number)
            if steps:
                marks.append(time.thread_time())
        marks.append(time.thread_time())
    took = [after - before for before, after in pairwise(marks)]
    return took[: steps or 1], time.thread_time() - begin - sum(took)


def measure(program: Program, variants: dict[str, Block], rounds: int) -> dict[str, list[tuple[float, float]]]:
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in variants}
    for turn in range(rounds):
        names = list(variants)
        names = names[turn % len(names) :] + names[: turn % len(names)]
        for name in names:
            (took,), once = train(program, variants[name])
            seconds[name].append((took / program.steps, once))
    return seconds


def kept(runs: list[Any], level: str) -> Block:
    """Watching that puts the run into `runs`."""

    @contextlib.contextmanager
    def block(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[None]:
        with watch(optimizer, on_finding="ignore", quiet=True, level=level) as run:
            runs.append(run)
            yield

    return block


def own_clock(program: Program) -> str:
    """The share of one block that the watcher says it took, on the default level and deep."""
    told = []
    for level in ("default", "deep"):
        runs: list[Any] = []
        train(program, kept(runs, level))
        record = runs[0].record
        told.append(f"{level} {100 * record.watching / record.seconds:.2f} %")
    return f"  by its own clock: {', '.join(told)}"


def direct(program: Program, rounds: int) -> str:
    """What a step of each kind costs beyond a plain one, in microseconds."""
    steps = max(min(program.steps, 1000) // 3, 60)
    extra: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for _ in range(rounds):
        for kind, (block, of_kind) in KINDS.items():
            around = statistics.median(train(program, VARIANTS["plain"], steps)[0][20:])
            took, _ = train(program, block, steps)
            chosen = [seconds for number, seconds in enumerate(took, 1) if of_kind(number)]
            extra[kind].append((statistics.median(chosen) if "first" not in kind else statistics.mean(chosen)) - around)
    lines = [f"{program.name}: one step of each kind, in us beyond a plain step"]
    for kind, values in extra.items():
        low, high = min(values) * 1e6, max(values) * 1e6
        lines.append(f"  {kind:<20} {statistics.median(values) * 1e6:>+10.1f}   ({low:+.1f} to {high:+.1f})")
    return "\n".join(lines)


def table(program: Program, measured: dict[str, list[tuple[float, float]]]) -> str:
    plain = [seconds for seconds, _ in measured["plain"]]
    lines = [
        f"{program.name}: {statistics.median(plain) * 1e6:,.0f} us for a plain step, {program.steps} steps a block"
    ]
    lines.append(f"  {'variant':<20} {'ratio':>8} {'quartiles':>17} {'us a step':>12} {'ms once':>9}")
    for name, rounds in measured.items():
        values = [seconds for seconds, _ in rounds]
        ratios = sorted(value / base for value, base in zip(values, plain, strict=True))
        extra = statistics.median(value - base for value, base in zip(values, plain, strict=True)) * 1e6
        once = statistics.median(seconds for _, seconds in rounds) * 1e3
        low, high = ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]
        lines.append(
            f"  {name:<20} {statistics.median(ratios):>8.4f} {low:>8.4f} {high:>8.4f} {extra:>+12.1f} {once:>9.1f}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--models", default="a,b,c,d", help="some of a, b, c, d")
    parser.add_argument("--variants", default="", help="names after commas; all by default; - for none")
    parser.add_argument("--steps", action=argparse.BooleanOptionalAction, default=True, help="also single steps")
    options = parser.parse_args()
    variants = dict(VARIANTS)
    if importlib.util.find_spec("wandb"):
        variants |= {"wandb": wandb_watch(1000), "wandb each 50": wandb_watch(50)}
    if importlib.util.find_spec("cockpit"):
        variants["cockpit"] = cockpit
    if options.variants not in ("", "-"):
        variants = {name: variants[name] for name in ["plain", *options.variants.split(",")]}
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for key in options.models.split(","):
        if options.variants != "-":
            print(table(PROGRAMS[key], measure(PROGRAMS[key], variants, options.rounds)), flush=True)
            print(own_clock(PROGRAMS[key]), flush=True)
        if options.steps:
            print(direct(PROGRAMS[key], options.rounds), flush=True)


if __name__ == "__main__":
    main()
