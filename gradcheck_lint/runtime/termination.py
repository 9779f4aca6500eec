"""SIGTERM, by which batch systems end a program: what was seen until then is written, and the program dies of it.

A handler is put in only where the program has none, and shows itself to nobody: a program that asks what is there, or
puts in one of its own, is told that there was none, and its own counts. It ends by the signal, with the same status as
without us, and children that it forks do not inherit the handler. As every handler that is written in Python it has to
wait until the main thread is back from a call into C.
"""

from __future__ import annotations

import functools
import os
import signal
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

_finishing: list[Callable[[], None]] = []  # what is to be done, the latest first
_hidden: list[tuple[str, Any, Any]] = []  # the functions of `signal` that hide the handler: name, original, ours


def expect(finish: Callable[[], None]) -> None:
    """Call this when SIGTERM comes, unless the program deals with that itself; in the main thread only."""
    if os.name != "posix" or threading.current_thread() is not threading.main_thread():
        return
    if not _hidden and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminated)
        _hide()
    _finishing.append(finish)


def expect_no_more(finish: Callable[[], None]) -> None:
    """It has been done, or need not be any more."""
    if finish in _finishing:
        _finishing.remove(finish)
    if not _finishing:
        _take_out()


def _take_out() -> None:
    """Leave SIGTERM to the system again, if the program has not put something else there; in the main thread only."""
    if not _hidden or threading.current_thread() is not threading.main_thread():
        return  # a handler that stays has nothing to do but to die
    _, original, _ = next(entry for entry in _hidden if entry[0] == "getsignal")
    there = original(signal.SIGTERM) is _terminated
    while _hidden:
        name, original, ours = _hidden.pop()
        if vars(signal).get(name) is ours:
            setattr(signal, name, original)
    if there:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _terminated(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a second one ends it at once
    finishing = list(reversed(_finishing))
    _finishing.clear()
    for finish in finishing:
        with suppress(BaseException):
            finish()
    os.kill(os.getpid(), signal.SIGTERM)


def _hide() -> None:
    """Let nobody see our handler, who would take it for one of the program's and keep or call it."""

    def getting(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def getsignal(*args: Any, **kwargs: Any) -> Any:
            found = original(*args, **kwargs)
            return signal.SIG_DFL if found is _terminated else found

        return getsignal

    for name in ("getsignal", "signal"):
        original = vars(signal)[name]
        ours = getting(original)
        _hidden.append((name, original, ours))
        setattr(signal, name, ours)


_masks: dict[int, set[signal.Signals | int]] = {}  # by thread that forks: the signals that it had blocked


def _before_a_fork() -> None:
    """Python forgets signals that a child gets before it has begun; without a handler such a child would be dead."""
    if _hidden:
        _masks[threading.get_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])


def _after_a_fork() -> None:
    mask = _masks.pop(threading.get_ident(), None)
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _in_a_child() -> None:
    if _hidden:
        _finishing.clear()
        _take_out()
    _after_a_fork()
    _masks.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_a_fork, after_in_parent=_after_a_fork, after_in_child=_in_a_child)
