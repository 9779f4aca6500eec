"""Where libraries enter what they know: a function by its full name, a method by its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from gradcheck_lint.source import torch_api
from gradcheck_lint.source.run.machine import Function, Method

FUNCTIONS: dict[str, Function] = {}
METHODS: dict[str, Method] = {}

F = TypeVar("F", bound=Function)
M = TypeVar("M", bound=Method)
T = TypeVar("T")


def function(*names: str) -> Callable[[F], F]:
    """Enter what functions or classes give when they are called, by their full names.

    Raises ValueError for a name that has an entry.
    """
    return _enter(FUNCTIONS, [torch_api.canonical(name) for name in names])  # which is what a call goes by


def method(*names: str) -> Callable[[M], M]:
    """Enter what methods of these names do, whatever they are called on that is no code of the project.

    Raises ValueError for a name that has an entry.
    """
    return _enter(METHODS, names)


def _enter(table: dict[str, T], names: Iterable[str]) -> Callable[[Any], Any]:
    def enter(known: T) -> T:
        for name in names:
            if name in table:
                raise ValueError(f"{name} is entered twice")
            table[name] = known
        return known

    return enter
