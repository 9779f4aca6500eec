"""Threads that train under watch: no process may die or hang, and all weights must be those of a run without a watch.

    python -m tests.fuzz.threads --processes 200

Each process runs some of the `SHAPES` below, drawn by its number: first without a watch, then with one, and compares
the weights to the bit. A process is a process of its own because what goes wrong with threads ends it.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import faulthandler
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
LONGEST = 300  # seconds for a process
STEPS = 5

Weights = list[list[float]]


class Setting(NamedTuple):
    """How a shape is run."""

    threads: int
    rounds: int
    watched: bool

    def watch(self, *optimizers: Any) -> AbstractContextManager[Any]:
        return self.kept(*optimizers) if self.watched else nullcontext()

    @staticmethod
    def kept(*optimizers: Any) -> Any:
        from gradcheck_lint import watch

        return watch(*optimizers, quiet=True, on_finding="ignore")


class Trainee:
    """A small model with the optimizer and the numbers that belong to it."""

    def __init__(self, number: int, *, bare: bool = False) -> None:
        import torch

        self.generator = torch.Generator().manual_seed(number)
        self.model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
        with torch.no_grad():
            for parameter in self.model.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=self.generator))
        if not bare:
            self.build()

    def build(self) -> None:
        import torch

        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.5)

    def step(self) -> None:
        import torch

        self.optimizer.zero_grad()
        self.model(torch.randn(3, 4, generator=self.generator)).square().mean().backward()
        self.optimizer.step()

    def train(self, steps: int = STEPS) -> None:
        for _ in range(steps):
            self.step()

    @property
    def weights(self) -> Weights:
        return [parameter.detach().reshape(-1).tolist() for parameter in self.model.parameters()]


def in_threads(*works: Callable[[], object]) -> None:
    """Run these at the same time; what one of them raises is raised here."""
    raised: list[BaseException] = []

    def run(work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if raised:
        raise raised[0]


def all_weights(trainees: list[Trainee]) -> list[Weights]:
    return [trainee.weights for trainee in trainees]


# Shapes


def own_watches(setting: Setting) -> object:
    """Each thread begins and ends watches of its own."""
    trainees = [Trainee(number) for number in range(setting.threads)]

    def work(trainee: Trainee) -> None:
        for _ in range(setting.rounds):
            with setting.watch(trainee.optimizer):
                trainee.train()

    in_threads(*(lambda t=t: work(t) for t in trainees))
    return all_weights(trainees)


def one_watch(setting: Setting) -> object:
    """One watch, in the main thread, of what all threads train."""
    trainees = [Trainee(number) for number in range(setting.threads)]
    with setting.watch(*(trainee.optimizer for trainee in trainees)):
        in_threads(*(lambda t=t: t.train(STEPS * setting.rounds) for t in trainees))
    return all_weights(trainees)


def one_watch_of_everything(setting: Setting) -> object:
    """Each thread builds what it trains while the main thread watches whatever is built."""
    trainees = [Trainee(number, bare=True) for number in range(setting.threads)]

    def work(trainee: Trainee) -> None:
        trainee.build()
        trainee.train(STEPS * setting.rounds)

    with setting.watch():
        in_threads(*(lambda t=t: work(t) for t in trainees))
    return all_weights(trainees)


def one_object(setting: Setting) -> object:
    """All threads enter the same watch, again and again."""
    trainees = [Trainee(number) for number in range(setting.threads)]
    run = setting.watch(*(trainee.optimizer for trainee in trainees))

    def work(trainee: Trainee) -> None:
        for _ in range(setting.rounds):
            with run:
                trainee.train()

    in_threads(*(lambda t=t: work(t) for t in trainees))
    return all_weights(trainees)


def nested(setting: Setting) -> object:
    """Watches in watches, that end in an order of their own."""
    trainees = [Trainee(number) for number in range(setting.threads)]

    def work(trainee: Trainee) -> None:
        for _ in range(setting.rounds):
            outer, inner = setting.watch(), setting.watch(trainee.optimizer)
            outer.__enter__()
            inner.__enter__()
            trainee.train()
            outer.__exit__(None, None, None)
            trainee.train(2)
            inner.__exit__(None, None, None)

    in_threads(*(lambda t=t: work(t) for t in trainees))
    return all_weights(trainees)


def decorated(setting: Setting) -> object:
    """A decorated function that several threads call, and that calls itself."""
    trainees = [Trainee(number, bare=True) for number in range(setting.threads)]

    def fit(trainee: Trainee, depth: int) -> None:
        trainee.build()
        trainee.train()
        if depth:
            call(trainee, depth - 1)

    call = setting.kept()(fit) if setting.watched else fit
    in_threads(*(lambda t=t: call(t, setting.rounds) for t in trainees))
    return all_weights(trainees)


def generators(setting: Setting) -> object:
    """Decorated generators of several threads, some of which are never finished."""
    trainees = [Trainee(number, bare=True) for number in range(setting.threads)]

    def losses(trainee: Trainee) -> Any:
        trainee.build()
        while True:
            trainee.step()
            yield

    call = setting.kept()(losses) if setting.watched else losses

    def work(trainee: Trainee) -> None:
        for _ in range(setting.rounds):
            running = call(trainee)
            for _ in range(STEPS):
                next(running)
            running.close()

    in_threads(*(lambda t=t: work(t) for t in trainees))
    return all_weights(trainees)


def shared_model(setting: Setting) -> object:
    """Threads with optimizers of their own train one model in turn, a cycle each."""
    shared = Trainee(0)
    trainees = [Trainee(number, bare=True) for number in range(setting.threads)]
    turns, turn = threading.Condition(), [0]
    for trainee in trainees:
        trainee.model = shared.model
        trainee.build()

    def work(number: int) -> None:
        for _ in range(setting.rounds):
            with setting.watch(trainees[number].optimizer):
                for _ in range(STEPS):
                    with turns:
                        turns.wait_for(lambda: turn[0] % setting.threads == number)
                        trainees[number].step()
                        turn[0] += 1
                        turns.notify_all()

    in_threads(*(lambda n=n: work(n) for n in range(setting.threads)))
    return shared.weights


def one_optimizer(setting: Setting) -> object:
    """One optimizer that several threads step in turn, under one watch."""
    shared = Trainee(0)
    turns, turn = threading.Condition(), [0]

    def work(number: int) -> None:
        for _ in range(STEPS * setting.rounds):
            with turns:
                turns.wait_for(lambda: turn[0] % setting.threads == number)
                shared.step()
                turn[0] += 1
                turns.notify_all()

    with setting.watch(shared.optimizer):
        in_threads(*(lambda n=n: work(n) for n in range(setting.threads)))
    return shared.weights


def executor(setting: Setting) -> object:
    """Each step is a job for whichever thread of a pool is free; two models at the same time."""
    trainees = [Trainee(number) for number in range(2)]
    with ThreadPoolExecutor(setting.threads) as pool, setting.watch(trainees[0].optimizer):
        for _ in range(STEPS * setting.rounds):
            for job in [pool.submit(trainee.step) for trainee in trainees]:
                job.result()
    return all_weights(trainees)


def tasks(setting: Setting) -> object:
    """Tasks of one thread that take turns, each with a watch of its own."""
    trainees = [Trainee(number) for number in range(setting.threads)]

    async def work(trainee: Trainee) -> None:
        for _ in range(setting.rounds):
            with setting.watch(trainee.optimizer):
                for _ in range(STEPS):
                    trainee.step()
                    await asyncio.sleep(0)

    async def everybody() -> None:
        await asyncio.gather(*(work(trainee) for trainee in trainees))

    asyncio.run(everybody())
    return all_weights(trainees)


def outliving(setting: Setting) -> object:
    """Threads that go on to train when the watch in the main thread is over."""
    trainees = [Trainee(number) for number in range(setting.threads)]
    begun = threading.Barrier(setting.threads + 1)

    def work(trainee: Trainee) -> None:
        trainee.train()
        begun.wait()
        trainee.train(STEPS * setting.rounds)

    def end_early() -> None:
        with setting.watch(*(trainee.optimizer for trainee in trainees)):
            begun.wait()

    in_threads(end_early, *(lambda t=t: work(t) for t in trainees))
    return all_weights(trainees)


def beside_a_loader(setting: Setting) -> object:
    """One thread trains and is watched; others make batches for it with a model of theirs, as data loaders do."""
    import torch

    trainee, helper = Trainee(0), Trainee(1, bare=True)
    done = threading.Event()

    def load() -> None:
        while not done.is_set():
            helper.model.train(False)
            torch.nn.Linear(2, 2).load_state_dict(torch.nn.Linear(2, 2).state_dict())
            with torch.no_grad():
                helper.model(torch.zeros(3, 4))

    def train() -> None:
        try:
            with setting.watch():
                trainee.build()
                trainee.train(STEPS * setting.rounds)
        finally:
            done.set()

    in_threads(train, *(load for _ in range(setting.threads - 1)))
    return trainee.weights


def beside_others(setting: Setting) -> object:
    """One thread is watched while others train what nobody watches."""
    trainees = [Trainee(number) for number in range(setting.threads)]

    def work(trainee: Trainee) -> None:
        with setting.watch(trainee.optimizer) if trainee is trainees[0] else nullcontext():
            trainee.train(STEPS * setting.rounds)

    in_threads(*(lambda t=t: work(t) for t in trainees))
    return all_weights(trainees)


SHAPES: list[Callable[[Setting], object]] = [
    own_watches, one_watch, one_watch_of_everything, one_object, nested, decorated, generators, shared_model,
    one_optimizer, executor, tasks, outliving, beside_a_loader, beside_others,
]  # fmt: skip

PROGRAM = """\
import threading
from tests.fuzz.threads import SHAPES, Setting, Trainee, all_weights, in_threads
print(SHAPES[{number}](Setting({threads}, {rounds}, False)))
"""


def left_behind() -> list[str]:
    """What a watch has left in torch."""
    import torch

    from gradcheck_lint.runtime import patches

    found = [f"{len(patches.ACTIVE)} sessions"] if patches.ACTIVE else []
    for owner, name in ((torch.autograd, "backward"), (torch.optim.Optimizer, "zero_grad"), (torch.nn.Module, "train")):
        if "gradcheck_lint" in getattr(owner, name).__code__.co_filename:
            found.append(name)
    return found


def one(number: int, *, every: bool = False) -> str:
    """What one process does with a few shapes, or with every one; what went wrong, or nothing."""
    import torch

    torch.set_num_threads(1)
    draw = random.Random(number)
    sys.setswitchinterval(draw.choice([0.005, 0.0005, 0.00005]))
    for shape in SHAPES if every else draw.sample(SHAPES, 3):
        threads, rounds = draw.randint(2, 6), draw.randint(2, 4)
        plain = shape(Setting(threads, rounds, watched=False))
        if shape(Setting(threads, rounds, watched=True)) != plain:
            return f"{shape.__name__} of {threads} threads differs"
        if found := left_behind():
            return f"{shape.__name__} of {threads} threads has left {', '.join(found)}"
    return ""


def under_run(number: int) -> list[str]:
    """The command of a process that runs threads under `gradlint run`."""
    draw = random.Random(number)
    program = PROGRAM.format(number=draw.randrange(len(SHAPES)), threads=draw.randint(2, 6), rounds=draw.randint(2, 4))
    path = Path(tempfile.mkdtemp(prefix="threads")) / "program.py"
    path.write_text(program, encoding="utf-8")
    return [str(path)]


def outcome(number: int) -> str:
    """Run a process; how it went, in a word or two. Each fourth is one of `gradlint run`."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"}

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=LONGEST
        )

    try:
        if number % 4 == 3:
            program = under_run(number)
            plain, run = call(*program), call("-m", "gradcheck_lint", "run", "-q", "--on-finding", "ignore", *program)
            if run.returncode or plain.stdout != run.stdout:
                return f"gradlint run: {run.returncode}, {'the same' if plain.stdout == run.stdout else 'differs'}"
            return ""
        done = call("-m", "tests.fuzz.threads", "--one", str(number))
    except subprocess.TimeoutExpired:
        return "hangs"
    if done.returncode < 0:
        return f"died by signal {-done.returncode}"
    return done.stdout.strip() if done.returncode == 0 else f"raised {done.stderr.strip().splitlines()[-1:]}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=2, help="processes at the same time")
    parser.add_argument("--first", type=int, default=0, help="the number of the first process")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--every", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one is not None:
        faulthandler.dump_traceback_later(LONGEST - 20, exit=True)
        print(one(options.one, every=options.every))
        return 0
    start = time.monotonic()
    numbers = range(options.first, options.first + options.processes)
    outcomes = {}
    with ThreadPoolExecutor(options.jobs) as pool:
        for number, how in zip(numbers, pool.map(outcome, numbers), strict=True):
            outcomes[number] = how
            print(f"process {number}: {how or 'well'}", flush=True)
    failed = collections.Counter(how.split(" of ")[0] for how in outcomes.values() if how)
    print(f"{len(outcomes)} processes in {time.monotonic() - start:.0f} s, {sum(failed.values())} failed", dict(failed))
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
