"""Islands spread over processes, each with a pipe of its own to this one.

A process that dies (killed, out of memory) costs the island that it was at, and another takes its place. When this
one is interrupted, or done, the others are killed at once: they only read, and have nothing to put in order. They end
by themselves as soon as this one is gone, however it went. `concurrent.futures` knows neither: it waits for what is
being worked on, and a process that dies takes all that is left with it.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from multiprocessing.connection import wait
from typing import TYPE_CHECKING

from gradcheck_lint import children
from gradcheck_lint.result import Problem
from gradcheck_lint.source.outcome import Outcome, attempt

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from multiprocessing.connection import Connection

    from gradcheck_lint.source.outcome import Analyse, Island, Outcomes, Work

    Folders = Sequence[tuple[str, list[str]]]

_PORTIONS = 4  # for each process: few enough that handing them out costs nothing, enough that all end about together


def outcomes(work: Work, todo: Sequence[Island], analyse: Analyse, jobs: int) -> Outcomes:
    """What comes of each island, in the order in which they are done with."""
    portions = deque(_portions(todo, jobs))
    folders = _folders(work)
    workers: list[_Worker] = []
    try:
        while portions or workers:
            while len(workers) < min(jobs, len(portions)):
                try:
                    with children.shielded():
                        workers.append(_Worker(folders))
                except OSError:
                    jobs = len(workers)
            if not workers:  # no process can be started here
                for island in portions.popleft():
                    yield island, attempt(analyse, work, island)
                continue
            ready = wait([worker.pipe for worker in workers])
            for worker in [worker for worker in workers if worker.pipe in ready]:
                try:
                    outcome = worker.answer()
                except (EOFError, OSError):
                    workers.remove(worker)
                    if worker.left:
                        outcome = worker.died()
                        yield worker.left.popleft(), outcome
                        portions.extend([worker.left] if worker.left else [])
                    else:
                        jobs -= 1  # it has not even come up, and no other will
                        worker.end()
                    continue
                if outcome is None:
                    worker.tell((analyse, work))
                else:
                    yield worker.left.popleft(), outcome
                if not worker.left and portions:
                    worker.give(portions.popleft())
                elif not worker.left:
                    workers.remove(worker)
                    worker.end()
    finally:
        for worker in workers:
            worker.process.kill()
        for worker in workers:
            worker.end()


class _Worker:
    """A process that analyses the islands that it is given, seen from here; `left` are those without an answer."""

    def __init__(self, folders: Folders) -> None:
        self.left: deque[Island] = deque()
        self.pipe, theirs = multiprocessing.Pipe()
        self.process = multiprocessing.Process(target=_serve, args=(theirs, folders), daemon=True)
        with theirs, _without_interrupts():  # kept open here, its end would not be seen
            self.process.start()

    def tell(self, message: object) -> None:
        with contextlib.suppress(OSError):  # it has died, as its silence will show
            self.pipe.send(message)

    def give(self, portion: deque[Island]) -> None:
        self.left = portion
        self.tell(list(portion))

    def answer(self) -> Outcome | None:
        """The outcome of the next island that it was given; None when it has come up. Raises EOFError if it died."""
        outcome: Outcome | None = self.pipe.recv()
        return outcome

    def died(self) -> Outcome:
        """The outcome of the island at which the process has died."""
        island = self.left[0]
        self.process.join(1)
        code = self.process.exitcode
        self.end()
        how = f"with exit code {code}"
        if code is not None and code < 0:
            how = f"by signal {-code}"
            with contextlib.suppress(ValueError):
                how = f"by {signal.Signals(-code).name}"
        words = f"the process that checked it was ended {how}"
        if code == -9:
            words += ", perhaps for want of memory"
        if len(island.files) > 1:
            words += f"; it was at {len(island.files)} files that import one another"
        return Outcome((), tuple(Problem(file.path, words) for file in island.files))

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Hold back Ctrl-C: a new process, which inherits that, is not to hear it before it can deal with it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _portions(todo: Sequence[Island], jobs: int) -> list[deque[Island]]:
    """The islands in a few portions of about the same size, the largest first."""
    portions: list[deque[Island]] = [deque() for _ in range(min(len(todo), jobs * _PORTIONS))]
    sizes = [0] * len(portions)
    for island in sorted(todo, key=lambda island: -island.size):
        index = sizes.index(min(sizes))
        portions[index].append(island)
        sizes[index] += 1 + island.size
    return [portion for portion in portions if portion]


def _folders(work: Work) -> Folders:
    """The packages that the rules are mounted as, with their folders."""
    packages = {type(rule).__module__.rpartition(".")[0] for rule in work.rules}
    return [(n, list(sys.modules[n].__path__)) for n in sorted(packages) if hasattr(sys.modules.get(n), "__path__")]


# ---------------------------------------------------------------- in the other process


def _serve(pipe: Connection, folders: Folders) -> None:
    """Answer island by island until this process is ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all processes of a terminal; the first one decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_follow_parent, daemon=True).start()
    gc.disable()  # an analysis clears away what others before it have left, once that is much
    for name, path in folders:
        _mount(name, path)
    with contextlib.suppress(EOFError, OSError):
        pipe.send(None)
        analyse, work = pipe.recv()
        while True:
            for island in pipe.recv():
                pipe.send(attempt(analyse, work, island))


def _mount(name: str, path: list[str]) -> None:
    """Mount a folder of rules, so that rules can be sent here."""
    from pathlib import Path

    from gradcheck_lint import registry

    if name not in sys.modules:
        if len(path) == 1:
            registry.mount(name, Path(path[0]))
        else:
            importlib.import_module(name)


def _follow_parent() -> None:
    """End with the process that has started this one, whatever has become of it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
