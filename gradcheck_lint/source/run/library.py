"""Where libraries enter what they know: a function by its full name, a method by its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from gradcheck_lint.source import torch_api
from gradcheck_lint.source.run.machine import Function, Method

FUNCTIONS: dict[str, Function] = {}
METHODS: dict[str, Method] = {}

F = TypeVar("F", bound=Function)
M = TypeVar("M", bound=Method)


def function(*names: str) -> Callable[[F], F]:
    """Enter what functions or classes give when they are called, by their full names.

    Raises ValueError for a name that has an entry.
    """

    def enter(known: F) -> F:
        for name in map(torch_api.canonical, names):  # which is what a call goes by
            if name in FUNCTIONS:
                raise ValueError(f"{name} is entered twice")
            FUNCTIONS[name] = known
        return known

    return enter


def method(*names: str) -> Callable[[M], M]:
    """Enter what methods of these names do, whatever they are called on that is no code of the project.

    Raises ValueError for a name that has an entry.
    """

    def enter(known: M) -> M:
        for name in names:
            if name in METHODS:
                raise ValueError(f"{name} is entered twice")
            METHODS[name] = known
        return known

    return enter
