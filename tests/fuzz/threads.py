"""Threads that train under watch: no process may die or hang, and all weights must be those of a run without a watch.

    python -m tests.fuzz.threads --processes 200
    python -m tests.fuzz.threads --processes 2000 --fork

Each process runs some of the `SHAPES` below, drawn by its number: first without a watch, then with one, and compares
the weights to the bit. A process is a process of its own because what goes wrong with threads ends it. In each second
one nobody may look at a gradient that another thread's backward may be writing, though it would mostly go well; see
`tests.runtime.guarded`. `--control` does everything without a watch, to see whether torch itself does the same each
time.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import faulthandler
import functools
import os
import random
import runpy
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
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
    every: int | None = None

    def watch(self, *optimizers: Any) -> AbstractContextManager[Any]:
        return self.kept(*optimizers) if self.watched else nullcontext()

    def kept(self, *optimizers: Any) -> Any:
        from gradcheck_lint import watch

        return watch(*optimizers, quiet=True, on_finding="ignore", every=self.every)


class Trainee:
    """A small model with the optimizer and the numbers that belong to it."""

    pause = 0.0  # seconds that each backward sleeps; if it does, the parameters are guarded

    def __init__(self, number: int, *, bare: bool = False) -> None:
        import torch

        self.generator = torch.Generator().manual_seed(number)
        self.model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
        with torch.no_grad():
            for parameter in self.model.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=self.generator))
        if self.pause:
            from tests.runtime.guarded import guard

            guard(self.model)
        if not bare:
            self.build()

    def build(self) -> None:
        import torch

        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.5)

    def step(self) -> None:
        import torch

        self.optimizer.zero_grad()
        output = self.model(torch.randn(3, 4, generator=self.generator))
        if self.pause:
            output.register_hook(lambda _: time.sleep(self.pause))
        output.square().mean().backward()
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
from tests.fuzz.threads import SHAPES, Setting, warm_up
warm_up()
print(SHAPES[{number}](Setting({threads}, {rounds}, False)))
"""


def warm_up() -> None:
    """Let torch get its functions ready in one thread.

    If several threads are the first to compute a tanh, some of them now and then get one that is wrong in the fifth
    digit, whether anything is watched or not: 9 of 5822 processes that did nothing else, and 0 of 5800 that did this
    before (torch 2.13 on a CPU).
    """
    import torch

    torch.tanh(torch.zeros(3, 8))


def left_behind() -> list[str]:
    """What a watch has left in torch."""
    import torch

    from gradcheck_lint.runtime import patches

    found = [f"{len(patches.ACTIVE)} sessions"] if patches.ACTIVE else []
    for owner, name in ((torch.autograd, "backward"), (torch.optim.Optimizer, "zero_grad"), (torch.nn.Module, "train")):
        if "gradcheck_lint" in getattr(owner, name).__code__.co_filename:
            found.append(name)
    return found


def one(number: int, *, every: bool = False, control: bool = False) -> str:
    """What one process does with a few shapes, or with every one; what went wrong, or nothing."""
    import torch

    from tests.runtime.guarded import looks

    torch.set_num_threads(1)
    warm_up()
    draw = random.Random(number)
    sys.setswitchinterval(draw.choice([0.005, 0.0005, 0.00005]))
    for shape in SHAPES if every else draw.sample(SHAPES, 3):
        threads, rounds, steps = draw.randint(2, 6), draw.randint(2, 4), draw.choice([None, 1, 2, 3, 7])
        plain = shape(Setting(threads, rounds, watched=False))
        about = f"{shape.__name__} of {threads} threads"
        for pause in (0.0, 0.0003) if number % 2 else (0.0,):
            Trainee.pause = pause
            with looks() if pause else nullcontext([]) as seen:
                trained = shape(Setting(threads, rounds, not control, steps))
            Trainee.pause = 0.0
            if trained != plain:
                return f"{about} differs"
            if seen:
                return f"{about} has looked {len(seen)} times: {seen[0]}"
            if found := left_behind():
                return f"{about} has left {', '.join(found)}"
    return ""


def under_run(number: int) -> list[str]:
    """The command of a process that runs threads under `gradlint run`."""
    draw = random.Random(number)
    program = PROGRAM.format(number=draw.randrange(len(SHAPES)), threads=draw.randint(2, 6), rounds=draw.randint(2, 4))
    path = Path(tempfile.mkdtemp(prefix="threads")) / "program.py"
    path.write_text(program, encoding="utf-8")
    return [str(path)]


def outcome(number: int, *, control: bool = False) -> str:
    """Run a process; how it went, in a word or two. Each fourth is one of `gradlint run`."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"}

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=LONGEST
        )

    try:
        if number % 4 == 3:
            program = under_run(number)
            watched = ("-m", "gradcheck_lint", "run", "-q", "--on-finding", "ignore", *program)
            plain, run = call(*program), call(*(program if control else watched))
            if run.returncode or plain.stdout != run.stdout:
                return f"gradlint run: {run.returncode}, {'the same' if plain.stdout == run.stdout else 'differs'}"
            return ""
        done = call("-m", "tests.fuzz.threads", "--one", str(number), *(["--control"] if control else []))
    except subprocess.TimeoutExpired:
        return "hangs"
    if done.returncode < 0:
        return f"died by signal {-done.returncode}"
    return done.stdout.strip() if done.returncode == 0 else f"raised {done.stderr.strip().splitlines()[-1:]}"


def child(work: Callable[[], object]) -> tuple[int, str]:
    """Do this in a fork of this process; how it ended, and what it has printed."""
    with tempfile.TemporaryFile("w+") as out:
        if not (number := os.fork()):
            code = 1
            try:
                os.dup2(out.fileno(), 1)
                os.dup2(out.fileno(), 2)
                faulthandler.enable()
                faulthandler.dump_traceback_later(LONGEST, exit=True)
                work()
                code = 0
            except SystemExit as ended:
                code = int(ended.code or 0)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])
        out.seek(0)
        return code, out.read().strip()


def forked_outcome(number: int, *, control: bool = False) -> str:
    """As `outcome`, in a process that need not import torch anew."""
    if number % 4 == 3:
        program = under_run(number)

        def run(*words: str) -> None:
            sys.argv = [*words]
            if words[0] == "gradcheck_lint":
                runpy.run_module("gradcheck_lint", run_name="__main__", alter_sys=True)
            else:
                runpy.run_path(words[0], run_name="__main__")

        watched = ("gradcheck_lint", "run", "-q", "--on-finding", "ignore", *program)
        _, expected = child(lambda: run(*program))
        code, said = child(lambda: run(*(program if control else watched)))
        return "" if (code, said) == (0, expected) else f"gradlint run: {code}: {said[-3000:]}"
    code, said = child(lambda: print(one(number, control=control)))
    return said[-3000:] if code == 0 else f"ended with {code}: {said}"


def fork_all(numbers: range, jobs: int, *, control: bool) -> Iterator[tuple[int, str]]:
    """How each process went, in forks of a process that has done nothing but to import and to train a step."""
    Trainee(0).step()
    import gradcheck_lint.runtime.session  # noqa: F401

    running: dict[int, tuple[int, Any]] = {}
    todo = iter(numbers)
    while True:
        while len(running) < jobs and (number := next(todo, None)) is not None:
            out = tempfile.TemporaryFile("w+")  # noqa: SIM115 - until the process has ended
            if not (process := os.fork()):
                out.write(forked_outcome(number, control=control))
                out.flush()
                os._exit(0)
            running[process] = number, out
        if not running:
            return
        process, _ = os.wait()
        number, out = running.pop(process)
        with out:
            out.seek(0)
            yield number, out.read()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=2, help="processes at the same time")
    parser.add_argument("--first", type=int, default=0, help="the number of the first process")
    parser.add_argument("--control", action="store_true", help="watch nothing")
    parser.add_argument("--fork", action="store_true", help="fork the processes: sooner, and all of them begin warm")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--every", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one is not None:
        faulthandler.dump_traceback_later(LONGEST - 20, exit=True)
        print(one(options.one, every=options.every, control=options.control))
        return 0
    start = time.monotonic()
    numbers = range(options.first, options.first + options.processes)
    outcomes = {}
    with ThreadPoolExecutor(options.jobs) as pool:
        if options.fork:
            ended = fork_all(numbers, options.jobs, control=options.control)
        else:
            ended = zip(numbers, pool.map(functools.partial(outcome, control=options.control), numbers), strict=True)
        for number, how in ended:
            outcomes[number] = how
            print(f"process {number}: {how or 'well'}", flush=True)
    failed = collections.Counter(how.split(" of ")[0] for how in outcomes.values() if how)
    print(f"{len(outcomes)} processes in {time.monotonic() - start:.0f} s, {sum(failed.values())} failed", dict(failed))
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
