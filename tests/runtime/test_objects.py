"""The watcher finds objects and looks at other threads without keeping anything of theirs."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from gradcheck_lint.runtime.objects import instances
from gradcheck_lint.runtime.stacks import in_backward


@pytest.fixture(autouse=True)
def restless() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    yield
    sys.setswitchinterval(before)


class Kept:
    """Remembers in which threads its instances were freed."""

    freed: ClassVar[set[int]] = set()

    def __init__(self) -> None:
        self.itself = [0]  # something the collector knows

    def __del__(self) -> None:
        Kept.freed.add(threading.get_ident())


def freed_while(look: Callable[[], object]) -> set[int]:
    """The threads that freed what one other thread makes and drops meanwhile, that thread itself left out."""
    Kept.freed = set()
    done = threading.Event()

    def held(depth: int) -> None:
        thing = Kept()  # noqa: F841 - it is freed with the frame
        if depth:
            held(depth - 1)

    def work() -> None:
        while not done.is_set():
            held(3)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(8):
            look()
    finally:
        done.set()
        thread.join()
    return Kept.freed - {thread.ident or 0}


def test_the_way_that_is_not_taken_frees_what_others_drop() -> None:
    """Else the tests below would show nothing."""
    assert freed_while(lambda: [thing for thing in gc.get_objects() if issubclass(type(thing), nn.Module)])


def walk_frames() -> None:
    for frame in sys._current_frames().values():
        inner = frame
        while inner.f_back is not None:
            inner = inner.f_back


def often(look: Callable[[], object]) -> Callable[[], object]:
    """A look that is over in no time comes to nothing if it is taken once."""
    return lambda: [look() for _ in range(500)]


def test_nor_would_the_other_look_at_threads_leave_theirs_alone() -> None:
    assert any(freed_while(often(walk_frames)) for _ in range(50))


def test_a_search_frees_nothing_of_other_threads() -> None:
    assert not freed_while(lambda: instances(nn.Module))


def test_a_look_at_other_threads_frees_nothing_of_theirs() -> None:
    assert not freed_while(often(in_backward))


class Odd(type):
    """Types that cannot be put into a set, and do not like to be compared."""

    def __eq__(cls, other: object) -> bool:
        raise RuntimeError("not to be compared")

    __hash__ = None  # type: ignore[assignment]

    def __getattribute__(cls, name: str) -> Any:
        raise RuntimeError("not to be asked")


def test_all_instances_are_found_and_nothing_else() -> None:
    class Mine(nn.Linear):
        pass

    odd = Odd("Anything", (), {})
    things = [Mine(1, 1) for _ in range(3)]
    others = [nn.Linear(1, 1), [odd]]
    found = instances(Mine)
    assert sorted(map(id, found)) == sorted(map(id, things))
    assert {id(thing) for thing in [*things, others[0]]} <= {id(module) for module in instances(nn.Module)}


@pytest.mark.parametrize("on", [True, False])
def test_the_collector_is_left_as_it_was(on: bool) -> None:
    before = gc.isenabled()
    (gc.enable if on else gc.disable)()
    try:
        instances(nn.Module)
        assert gc.isenabled() is on
    finally:
        (gc.enable if before else gc.disable)()


@pytest.mark.parametrize("look", [lambda: instances(nn.Module), in_backward], ids=["objects", "threads"])
def test_who_interrupts_it_finds_the_collector_as_it_was(look: Callable[[], object]) -> None:
    disable = gc.disable

    def interrupted() -> None:
        disable()
        raise KeyboardInterrupt

    before = gc.isenabled()
    gc.enable()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(gc, "disable", interrupted)
            with pytest.raises(KeyboardInterrupt):
                look()
        assert gc.isenabled()
    finally:
        (gc.enable if before else disable)()


def test_threads_in_a_backward_are_found() -> None:
    inside, leave = threading.Event(), threading.Event()

    def wait(_: torch.Tensor) -> None:
        inside.set()
        leave.wait(60)

    def work() -> None:
        loss = torch.ones(1, requires_grad=True) * 2
        loss.register_hook(wait)
        loss.backward()

    thread = threading.Thread(target=work)
    thread.start()
    assert inside.wait(60)
    try:
        found = in_backward()
    finally:
        leave.set()
        thread.join()
    assert found == {thread.ident}
    assert not in_backward()


def test_threads_that_are_many_or_deep_are_seen_to_the_end() -> None:
    """Else nothing could be said of what is trained beside them."""
    inside, leave = threading.Semaphore(0), threading.Event()

    def down(depth: int) -> None:
        if depth:
            down(depth - 1)
        else:
            inside.release()
            leave.wait(60)

    def wait(_: torch.Tensor) -> None:
        down(200)

    def work() -> None:
        loss = torch.ones(1, requires_grad=True) * 2
        loss.register_hook(wait)
        loss.backward()

    deep = threading.Thread(target=work)
    threads = [deep, *(threading.Thread(target=down, args=(200 if number == 0 else 0,)) for number in range(120))]
    for thread in threads:
        thread.start()
        assert inside.acquire(timeout=60)
    try:
        found = in_backward()
    finally:
        leave.set()
        for thread in threads:
            thread.join()
    assert found == {deep.ident}
