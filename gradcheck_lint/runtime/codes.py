"""The code that the user's functions consist of, to look for what a program may do besides what it has done."""

from __future__ import annotations

import inspect
import sys
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

from gradcheck_lint.runtime import sites, stores

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from gradcheck_lint.runtime.sites import Mark

_MOST = 2000  # functions that are looked into
_VARIABLES = 200  # of a frame


def methods(kind: type, first: str = "__init__") -> Iterator[CodeType]:
    """The codes of the methods of a class and of those that it inherits from, as far as the user wrote them.

    That of the method `first` comes first.
    """
    found: dict[str, CodeType] = {}
    for owner in inspect.getmro(kind):
        for name, method in list(vars(owner).items()):
            code = sites.code_of(getattr(method, "__func__", method))
            if code is not None and name not in found and not sites.foreign(code.co_filename):
                found[name] = code
    for name in sorted(found, key=lambda name: name != first):
        yield from _with_inner(found[name])


def attribute_set(frames: Sequence[FrameType], thing: object, attribute: str, name: str, kind: type) -> Mark | None:
    """The assignment to an attribute of a thing, where it is certain which one that is.

    name: what the user calls the thing; kind: what it is, as a variable may have been one thing after another of it.
    Of a function that does not run, what its variables stood for is not known: only their names speak for them.
    """
    sure: list[Mark] = []
    perhaps: list[Mark] = []
    last = name.rpartition(".")[2]
    own = dict.fromkeys(methods(type(thing)))
    for code in dict.fromkeys((*own, *reachable(frames))):
        for mark, owner in stores.owners_of(code, attribute):
            value = next((sites.variables(frame).get(owner) for frame in frames if frame.f_code is code), None)
            named = bool(owner) and (owner == last or (owner == "self" and code in own))
            if (
                value is thing
                or ("[" in owner and owner == name)
                or ("." in owner and owner.rpartition(".")[2] == last)
            ):
                sure.append(mark)
            elif issubclass(type(value), kind) or (value is None and named):
                perhaps.append(mark)
    found = sure or perhaps
    return found[0] if len(found) == 1 else None


def reachable(frames: Iterable[FrameType]) -> Iterator[CodeType]:
    """The codes of the user's functions that run in these frames or have names there, each once."""
    seen: set[CodeType] = set()
    for code in _all(frames):
        if code not in seen:
            seen.add(code)
            yield code
        if len(seen) > _MOST:
            return


def at_hand(frames: Sequence[FrameType]) -> Iterator[CodeType]:
    """The same, and those of the modules that the objects come from which the variables of these frames stand for."""
    yield from reachable(frames)
    modules = dict.fromkeys(
        type(value).__module__ for frame in frames for value in list(sites.variables(frame).values())[:_VARIABLES]
    )
    for name in modules:
        module = sys.modules.get(name)
        if type(module) is ModuleType:
            yield from _of(module, deep=True)


def _all(frames: Iterable[FrameType]) -> Iterator[CodeType]:
    for frame in frames:
        yield from _with_inner(frame.f_code)
        for value in list(frame.f_globals.values()):
            yield from _of(value, deep=True)


def _of(value: Any, *, deep: bool) -> Iterator[CodeType]:
    """The codes of a function, of the methods of a class, and of what lies in a module."""
    if isinstance(value, FunctionType):
        if not sites.foreign(value.__code__.co_filename):
            yield from _with_inner(value.__code__)
    elif type(value) is ModuleType:
        if deep and not sites.foreign(getattr(value, "__file__", None) or "<frozen"):
            for inner in list(vars(value).values()):
                yield from _of(inner, deep=False)
    elif isinstance(value, type):
        yield from methods(value)


def _with_inner(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _with_inner(constant)
