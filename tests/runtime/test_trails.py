"""Where in running code a call stands: outside of the loop that is running, and to come again."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from gradcheck_lint.runtime.trails import outside

Seen = list[int | None]


class Thing:
    def zero_grad(self) -> None:
        """Does nothing."""


opt, other = Thing(), Thing()


def look(seen: Seen) -> None:
    frames = [sys._getframe(1), sys._getframe(2)]
    found = outside(frames, lambda frame: {"opt"}, "zero_grad")
    seen.append(None if found is None else found.line - found.code.co_firstlineno)


def after_the_loop(seen: Seen) -> None:
    for _ in range(2):
        for _ in range(2):
            look(seen)
        opt.zero_grad()


def before_the_loop(seen: Seen) -> None:
    for _ in range(2):
        opt.zero_grad()
        for _ in range(2):
            look(seen)


def in_the_loop(seen: Seen) -> None:
    for _ in range(2):
        for _ in range(2):
            look(seen)
            opt.zero_grad()


def when_all_is_over(seen: Seen) -> None:
    for _ in range(2):
        look(seen)
    opt.zero_grad()


def of_another(seen: Seen) -> None:
    for _ in range(2):
        for _ in range(2):
            look(seen)
        other.zero_grad()


def _loop(seen: Seen) -> None:
    for _ in range(2):
        look(seen)


def by_the_caller(seen: Seen) -> None:
    for _ in range(2):
        _loop(seen)
        opt.zero_grad()


def _straight(seen: Seen) -> None:
    look(seen)


def by_the_caller_in_its_loop(seen: Seen) -> None:
    for _ in range(2):
        _straight(seen)
        opt.zero_grad()


@pytest.mark.parametrize(
    ("function", "line"),
    [
        (after_the_loop, 4),
        (before_the_loop, 2),
        (in_the_loop, None),
        (when_all_is_over, None),
        (of_another, None),
        (by_the_caller, 3),
        (by_the_caller_in_its_loop, None),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_outside(function: Callable[[Seen], None], line: int | None) -> None:
    seen: Seen = []
    function(seen)
    assert set(seen) == {line}
