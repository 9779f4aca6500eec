"""Which thread a watch listens to, and what it says of the others; a watch that is entered again."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import guarded
import pytest
import torch
from torch import nn

from gradcheck_lint import watch
from gradcheck_lint.runtime import patches
from gradcheck_lint.runtime.check import Check
from gradcheck_lint.runtime.checks.listed import CHECKS
from gradcheck_lint.runtime.roster import Roster
from gradcheck_lint.runtime.turn import Turn

QUIET: dict[str, Any] = {"quiet": True, "on_finding": "ignore"}


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = nn.Linear(3, 2)
    return model, torch.optim.SGD(model.parameters(), lr=0.1)


def cycle(model: nn.Module, optimizer: torch.optim.Optimizer, *, clears: bool = True) -> None:
    if clears:
        optimizer.zero_grad()
    model(torch.randn(4, 3)).sum().backward()
    optimizer.step()


def in_a_thread(work: Callable[[], object]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def forgets(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for _ in range(4):
        cycle(model, optimizer, clears=False)


def clean() -> bool:
    ours = [torch.autograd.backward, torch.optim.Optimizer.zero_grad, nn.Module.train, torch.autograd.Function.apply]
    return not patches.ACTIVE and all("gradcheck_lint" not in f.__code__.co_filename for f in ours)


def test_a_thread_that_trains_is_watched_though_another_began_to_watch() -> None:
    model, optimizer = build()
    with watch(optimizer, **QUIET) as run:
        in_a_thread(lambda: forgets(model, optimizer))
    assert [finding.code for finding in run.findings] == ["GL101"]
    assert run.record.optimizers[0].blind == ()


def test_what_a_thread_builds_is_watched_too() -> None:
    with watch(**QUIET) as run:
        in_a_thread(lambda: forgets(*build()))
    assert [finding.code for finding in run.findings] == ["GL101"]


def test_one_thread_after_another() -> None:
    with watch(**QUIET) as run:
        for _ in range(3):
            in_a_thread(lambda: [cycle(*made) for made in [build()] for _ in range(4)])
    assert [(o.steps, o.blind) for o in run.record.optimizers] == [(4, ())] * 3


def test_what_another_thread_trains_is_counted_and_told() -> None:
    mine, theirs = build(), build()
    with watch(mine[1], theirs[1], **QUIET) as run:
        cycle(*mine)
        in_a_thread(lambda: forgets(*theirs))
        forgets(*mine)
    first, second = run.record.optimizers
    assert (first.steps, second.steps) == (5, 4)
    assert "it is trained in one thread while another" in second.blind[0]
    assert [finding.code for finding in run.findings] == ["GL102"]  # of what this thread trains


def test_threads_that_share_a_model_are_not_judged() -> None:
    model, optimizer = build()
    other = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(optimizer, **QUIET) as run:
        optimizer.zero_grad()
        model(torch.randn(4, 3)).sum().backward()
        in_a_thread(lambda: cycle(model, other))
        optimizer.step()
    assert "several threads work on its parameters" in run.record.optimizers[0].blind[0]
    assert run.findings == []


def test_a_thread_goes_on_where_another_has_stopped() -> None:
    model, optimizer = build()
    with watch(optimizer, **QUIET) as run:
        for _ in range(3):
            cycle(model, optimizer)
        in_a_thread(lambda: forgets(model, optimizer))
    assert run.record.optimizers[0].blind == ()
    assert run.record.optimizers[0].steps == 7


def test_sessions_end_in_any_order() -> None:
    first, second = watch(level="deep", **QUIET), watch(level="deep", **QUIET)
    for begins in (first, second):
        begins.__enter__()
        build()
    for ends in (first, second):
        ends.__exit__(None, None, None)
    assert clean()


def test_a_watch_is_entered_again() -> None:
    made = build()
    run = watch(made[1], **QUIET)
    with run:
        with run:
            cycle(*made)
        forgets(*made)
    assert clean()
    assert run.record.optimizers[0].steps == 5


def test_a_decorated_function_that_calls_itself() -> None:
    @watch(**QUIET)
    def train(depth: int) -> None:
        cycle(*build())
        if depth:
            train(depth - 1)
            assert patches.ACTIVE

    train(3)
    assert clean()


def test_calls_in_several_threads_are_watched_each_by_itself() -> None:
    run = watch(**QUIET)
    met = threading.Barrier(2, timeout=60)

    @run
    def train() -> None:
        met.wait()
        forgets(*build())
        met.wait()
        assert len(patches.ACTIVE) == 2
        met.wait()

    threads = [threading.Thread(target=train) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clean()
    assert [optimizer.blind for optimizer in run.record.optimizers] == [()]
    assert [finding.code for finding in run.findings] == ["GL101"]


def training(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[int]:
    for i in range(4):
        cycle(model, optimizer, clears=False)
        yield i


@pytest.mark.parametrize("ends", ["done", "closed", "dropped"])
def test_a_generator_is_watched_until_it_ends(ends: str) -> None:
    run = watch(**QUIET)

    @run
    def train() -> Iterator[int]:
        yield from training(*build())

    running = train()
    assert not patches.ACTIVE
    assert [next(running), next(running)] == [0, 1]
    assert patches.ACTIVE
    if ends == "done":
        assert list(running) == [2, 3]
    elif ends == "closed":
        running.close()  # type: ignore[attr-defined]
    del running
    assert clean()
    assert [finding.code for finding in run.findings] == ["GL101"]


def test_a_generator_of_another_decorator() -> None:
    def plain(function: Callable[..., Any]) -> Callable[..., Any]:
        return functools.wraps(function)(lambda *args: function(*args))

    run = watch(**QUIET)
    assert list(run(plain(training))(*build())) == [0, 1, 2, 3]
    assert clean()
    assert run.findings == []  # what was built before it began is not watched
    assert run.record.ended == "ended"


def test_coroutines_and_their_generators() -> None:
    run, other = watch(**QUIET), watch(**QUIET)

    @run
    async def train() -> int:
        forgets(*build())
        await asyncio.sleep(0)
        assert patches.ACTIVE
        return 5

    @other
    async def losses() -> AsyncIterator[Any]:
        model, optimizer = build()
        said = None
        while said != "stop":
            cycle(model, optimizer, clears=False)
            with contextlib.suppress(KeyError):
                said = yield said

    async def everything() -> list[Any]:
        running: Any = losses()
        said = [await train(), await running.asend(None), await running.asend("more"), await running.athrow(KeyError())]
        await running.aclose()
        return said

    assert asyncio.run(everything()) == [5, None, "more", "more"]
    assert clean()
    assert [finding.code for finding in (*run.findings, *other.findings)] == ["GL101", "GL101"]


@pytest.mark.parametrize("thing", [nn.Linear, classmethod(lambda cls: None), 5])
def test_what_cannot_be_decorated_is_refused(thing: Any) -> None:
    with pytest.raises(TypeError, match=r"watch\(\) decorates a function that trains, and this is"):
        watch()(thing)


def test_without_parentheses() -> None:
    with pytest.raises(TypeError, match=r"write `@watch\(\)`"):
        watch(training)  # type: ignore[arg-type]


# Nobody looks at a gradient that another thread may be writing


class Held:
    """A loss whose backward waits in the middle, until it is let go on."""

    def __init__(self) -> None:
        self.there, self.on = threading.Event(), threading.Event()

    def wait(self, _: object) -> None:
        self.there.set()
        assert self.on.wait(60)

    def backward(self, model: nn.Module, scale: torch.Tensor | float = 1.0) -> None:
        loss = (model(torch.randn(4, 3)) * scale).sum()
        loss.register_hook(self.wait)
        loss.backward()


@contextlib.contextmanager
def beside(work: Callable[[], object], held: Held) -> Iterator[threading.Thread]:
    """While a thread is in the middle of a backward; then it goes on. What it raises is raised here."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert held.there.wait(60)
    try:
        yield thread
    finally:
        held.on.set()
        thread.join()
    assert not raised, raised


def guarded_model() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = nn.Linear(3, 2)
    guarded.guard(model)
    return model, torch.optim.SGD(model.parameters(), lr=0.1)


def ours(seen: list[str]) -> list[str]:
    """Those that are not the program's own."""
    return [look for look in seen if "gradcheck_lint" in look.rpartition("  File ")[2]]


def slow_backward(model: nn.Module) -> None:
    loss = model(torch.randn(4, 3)).sum()
    loss.register_hook(lambda _: time.sleep(0.2))
    loss.backward()


class Reader(Check):
    """Reads all gradients of all that is watched when it is over, as a check may."""

    reads = threading.Event()
    seconds = 0.0

    def ended(self) -> None:
        end = time.monotonic() + self.seconds
        self.reads.set()
        while True:
            for observer in self.session.observers.values():
                assert all(p.grad is None or p.grad._version >= 0 for p in observer.parameters())
            if time.monotonic() > end:
                return
            time.sleep(0.01)


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> None:
    Reader.reads.clear()
    listed = [*CHECKS, Reader]
    monkeypatch.setattr("gradcheck_lint.runtime.session.CHECKS", listed)


def test_the_turn_does_not_pass_in_the_middle_of_the_first_backward() -> None:
    mine, theirs, held = guarded_model(), guarded_model(), Held()

    def train() -> None:
        with watch(mine[1], theirs[1], **QUIET) as run:
            held.backward(mine[0])
            mine[1].step()
        runs.append(run)

    runs: list[watch] = []
    with guarded.looks() as seen:
        with beside(train, held):
            cycle(*theirs)
        assert seen == []
    first, second = runs[0].record.optimizers
    assert first.blind == ()
    assert "it is trained in one thread while another" in second.blind[0]


def test_a_backward_that_began_before_the_watch() -> None:
    mine, theirs, held = guarded_model(), guarded_model(), Held()
    with guarded.looks() as seen:
        with beside(lambda: held.backward(theirs[0]), held), watch(mine[1], theirs[1], **QUIET) as run:
            cycle(*mine)
        assert seen == []
    for optimizer in run.record.optimizers:  # nobody knows which of them it works on
        assert "another thread may have been at work on it when its watching began" in optimizer.blind[0]
    assert [optimizer.steps for optimizer in run.record.optimizers] == [1, 0]


def test_a_backward_that_began_under_another_watch() -> None:
    mine, theirs, held = guarded_model(), guarded_model(), Held()
    with guarded.looks() as seen, watch(build()[1], **QUIET):
        with beside(lambda: held.backward(theirs[0]), held), watch(mine[1], theirs[1], **QUIET) as run:
            cycle(*mine)
        assert seen == []
    first, second = run.record.optimizers
    assert (first.steps, first.blind) == (1, ())
    assert "another thread may have been at work" in second.blind[0]


def test_two_threads_that_both_find_nobody_in_the_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    made = [guarded_model(), guarded_model()]
    take, met = Turn._take, threading.Barrier(2)

    def meet(self: Turn, me: int, *, trains: bool) -> bool:
        with contextlib.suppress(threading.BrokenBarrierError):
            met.wait(0.5)  # the other one does not come where one decides after the other
        return take(self, me, trains=trains)

    def train(number: int) -> None:
        made[number][1].zero_grad()
        for _ in range(3):
            slow_backward(made[number][0])

    monkeypatch.setattr(Turn, "_take", meet)
    with guarded.looks() as seen, watch(*(optimizer for _, optimizer in made), **QUIET) as run:
        threads = [threading.Thread(target=train, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert seen == []
    said = sorted(optimizer.blind[0].partition(" while ")[0] for optimizer in run.record.optimizers)
    assert said == ["it is trained in one thread", "it never stepped"]


@pytest.mark.usefixtures("reader")
def test_the_end_in_another_thread_in_the_middle_of_the_first_backward() -> None:
    mine, held, runs = guarded_model(), Held(), []

    def train() -> None:
        runs.append(watch.start(mine[1], **QUIET))
        held.backward(mine[0])

    with guarded.looks() as seen:
        with beside(train, held):
            runs[0].__exit__(None, None, None)
        assert seen == []
    assert "the watching ended while another thread trained" in runs[0].record.optimizers[0].blind[-1]
    assert clean()


@pytest.mark.usefixtures("reader")
def test_a_backward_waits_for_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = guarded_model()
    monkeypatch.setattr(Reader, "seconds", 2.2)

    def train() -> None:
        cycle(*mine)
        trained.set()
        assert Reader.reads.wait(60)
        for _ in range(3):
            slow_backward(mine[0])

    trained = threading.Event()
    thread = threading.Thread(target=train)
    with guarded.looks() as seen:
        with watch(mine[1], **QUIET):
            thread.start()
            assert trained.wait(60)
        thread.join()
        assert seen == []


@pytest.mark.usefixtures("reader")
def test_the_end_while_another_thread_parts_two(monkeypatch: pytest.MonkeyPatch) -> None:
    mine, theirs = guarded_model(), guarded_model()
    trained, parting, parted, let_go = threading.Event(), threading.Event(), threading.Event(), Roster.let_go
    monkeypatch.setattr(Reader, "seconds", 0.8)

    def stay(self: Roster, *args: Any) -> None:
        let_go(self, *args)
        parting.set()
        Reader.reads.wait(0.5)  # that does not come where the end waits for this

    def train() -> None:
        cycle(*mine)
        trained.set()
        assert parted.wait(60)
        for _ in range(3):
            slow_backward(mine[0])

    def part() -> None:
        theirs[1].zero_grad()
        parted.set()

    monkeypatch.setattr(Roster, "let_go", stay)
    threads = [threading.Thread(target=train), threading.Thread(target=part)]
    with guarded.looks() as seen:
        with watch(mine[1], theirs[1], **QUIET):
            threads[0].start()
            assert trained.wait(60)
            threads[1].start()
            assert parting.wait(60)
        for thread in threads:
            thread.join()
        assert seen == []
    assert clean()


def test_what_no_optimizer_holds_is_not_looked_at_either() -> None:
    (model, optimizer), held = build(), Held()
    scale = guarded.Guarded(torch.ones(()))
    with watch(optimizer, **QUIET), guarded.looks() as seen:
        for _ in range(2):
            optimizer.zero_grad()
            (model(torch.randn(4, 3)).sum() * scale).backward()
            optimizer.step()
        with beside(lambda: held.backward(build()[0], scale), held):
            cycle(model, optimizer)
            (model(torch.randn(4, 3)).sum() * scale.detach()).backward()
        assert seen == []


def test_hooks_are_left_where_another_thread_goes_through_them() -> None:
    (model, optimizer), held = build(), Held()
    optimizer.register_step_pre_hook(lambda *_: held.wait(None) if threading.get_ident() != main else None)
    main = threading.get_ident()
    run = watch.start(optimizer, **QUIET)
    with beside(lambda: cycle(model, optimizer), held):  # it waits in the step, not in backward
        run.__exit__(None, None, None)
    assert clean()
    cycle(model, optimizer)
    assert run.record.optimizers[0].steps == 0


def test_a_call_that_ends_is_no_part_of_one_that_another_thread_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    run = watch(**QUIET)
    stop, first = watch.__exit__, threading.get_ident()
    inside, over, found = threading.Event(), threading.Event(), []

    def end(self: watch, *error: Any) -> None:
        stop(self, *error)
        if threading.get_ident() == first and not inside.is_set():
            thread.start()
            assert inside.wait(60)

    @run
    def train() -> None:
        if threading.get_ident() != first:
            inside.set()
            assert over.wait(60)
        found.append(len(patches.ACTIVE))

    monkeypatch.setattr(watch, "__exit__", end)
    thread = threading.Thread(target=train)
    train()
    train()
    over.set()
    thread.join()
    assert found == [1, 2, 1]
    assert clean()


def test_who_is_told_of_a_finding_may_wait_for_a_thread_that_trains() -> None:
    (model, optimizer), held = guarded_model(), Held()
    told: list[str] = []

    def tell(finding: Any) -> None:
        told.append(finding.code)
        thread.start()
        assert held.there.wait(60)

    thread = threading.Thread(target=lambda: held.backward(model))
    with guarded.looks() as seen, watch(optimizer, on_finding=tell, quiet=True) as run:
        forgets(model, optimizer)
        held.on.set()
        thread.join()
        assert not ours(seen)
    assert told == ["GL101"]
    assert "two threads waited for one another" in run.record.optimizers[0].blind[-1]


def test_a_writer_may_wait_for_a_thread_that_trains() -> None:
    (model, optimizer), held = guarded_model(), Held()
    thread = threading.Thread(target=lambda: held.backward(model))

    def write(numbers: dict[str, float], step: int) -> None:
        if step == 2:
            thread.start()
            assert held.there.wait(60)

    with guarded.looks() as seen, watch(optimizer, writer=write, every=1, **QUIET) as run:
        for _ in range(3):
            cycle(model, optimizer)
        held.on.set()
        thread.join()
        assert not ours(seen)
    assert "two threads waited for one another" in run.record.optimizers[0].blind[-1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_fork_in_the_middle_of_what_another_thread_does() -> None:
    mine, theirs, held = guarded_model(), guarded_model(), Held()
    with watch(mine[1], **QUIET):
        cycle(*mine)
        with beside(lambda: held.backward(theirs[0]), held):
            if not (child := os.fork()):
                cycle(*mine)
                with watch(theirs[1], **QUIET) as other:
                    cycle(*theirs)
                os._exit(len(other.record.optimizers[0].blind))
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
