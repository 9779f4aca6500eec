"""Which thread a watch listens to, and what it says of the others; a watch that is entered again."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

from gradcheck_lint import watch
from gradcheck_lint.runtime import patches

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
