"""What watching costs: training steps with and without the watcher, side by side in one run.

    python benchmarks/watch.py [--rounds 9] [--models a,b,c,d,e,f] [--variants ...]
    python benchmarks/watch.py --first

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
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import torch
from rivals import Block, Part, gradient_hooks, installed
from watched import Job, Program, programs

from gradcheck_lint import watch


def watching(**options: Any) -> Block:
    return lambda job: watch(*job.optimizers, on_finding="ignore", quiet=True, **options)


VARIANTS: dict[str, Block] = {
    "plain": lambda job: contextlib.nullcontext(),
    "plain again": lambda job: contextlib.nullcontext(),
    "watch": watching(),
    "watch deep": watching(level="deep"),
    "watch every step": watching(every=1),
    "detect_anomaly": lambda job: torch.autograd.detect_anomaly(check_nan=True),
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
    job = program.job()
    if program.plain:
        job.run(3, None, lambda: None)
    begin = time.thread_time()
    with variant(job) as given:
        part = given if isinstance(given, Part) else Part()
        marks = [time.thread_time()]

        def over() -> None:
            part.over()
            if steps:
                marks.append(time.thread_time())

        job.run(steps or program.steps, part.backward, over)
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
    def block(job: Job) -> Iterator[None]:
        with watch(*job.optimizers, on_finding="ignore", quiet=True, level=level) as run:
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


FIRST = """
import time
import torch

torch.set_num_threads(1)
model = torch.nn.Linear(2, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)


def step():
    optimizer.zero_grad()
    model(torch.ones(2)).sum().backward()
    optimizer.step()


step()
marks = [time.thread_time()]
from gradcheck_lint import watch

marks.append(time.thread_time())
with watch(optimizer, quiet=True):
    marks.append(time.thread_time())
    for _ in range(20):
        step()
    marks.append(time.thread_time())
print(*(after - before for before, after in zip(marks, marks[1:])))
"""


def first(rounds: int) -> str:
    """What the first watch of a process costs, where torch has been imported and has made a step."""
    took: list[list[float]] = []
    for _ in range(rounds + 1):  # the first may have to compile our files
        done = subprocess.run([sys.executable, "-c", FIRST], check=True, capture_output=True, text=True)
        took.append([1000 * float(word) for word in done.stdout.split()])
    median = [statistics.median(values) for values in zip(*took[1:], strict=True)]
    both = statistics.median(values[0] + values[1] for values in took[1:])
    imported, entered, steps = median
    return (
        f"the first watch: {imported:.1f} ms to import, {entered:.1f} to enter, {both:.1f} both; 20 steps {steps:.1f}"
    )


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
    parser.add_argument("--models", default="a,b,c,d,e,f", help="some of a, b, c, d, e, f")
    parser.add_argument("--variants", default="", help="names after commas; all by default; - for none")
    parser.add_argument("--steps", action=argparse.BooleanOptionalAction, default=True, help="also single steps")
    parser.add_argument("--first", action="store_true", help="only what the first watch of a process costs")
    options = parser.parse_args()
    if options.first:
        print(first(options.rounds))
        return
    variants = VARIANTS | installed()
    if options.variants not in ("", "-"):
        variants = {name: variants[name] for name in ["plain", *options.variants.split(",")]}
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    known = dict(programs())
    for key in options.models.split(","):
        program = known[key]
        chosen = {name: block for name, block in variants.items() if program.plain or name != "cockpit"}
        if options.variants != "-":
            print(table(program, measure(program, chosen, options.rounds)), flush=True)
            print(own_clock(program), flush=True)
        if options.steps and program.plain:
            print(direct(program, options.rounds), flush=True)


if __name__ == "__main__":
    main()
