"""Whether the program has code that writes networks by hand, as targets and averages are: it may not have run yet."""

from __future__ import annotations

from types import CodeType, FrameType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

from gradcheck_lint.runtime import sites

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch.nn import Module

_WALKS = frozenset({"parameters", "named_parameters", "state_dict", "buffers"})
_WRITES = frozenset({"copy_", "lerp_", "mul_", "load_state_dict", "_foreach_copy_", "_foreach_lerp_", "_foreach_mul_"})
_MOST = 2000  # functions that are looked into


def writes_networks(frames: Iterable[FrameType]) -> bool:
    """Whether a function of the user's in reach of these frames goes over parameters and writes into some."""
    seen: set[CodeType] = set()
    for code in _codes(frames):
        if code in seen:
            continue
        seen.add(code)
        names = set(code.co_names)
        if names & _WALKS and names & _WRITES:
            return True
        if len(seen) > _MOST:
            break
    return False


def twins(module: Module, others: Iterable[Module]) -> bool:
    """Whether one of the others could be what a module is a copy of: of its class, with tensors of its shapes."""
    shapes = [parameter.shape for parameter in module.parameters()]
    return any(
        other is not module and type(other) is type(module) and [p.shape for p in other.parameters()] == shapes
        for other in others
    )


def _codes(frames: Iterable[FrameType]) -> Iterator[CodeType]:
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
        for method in list(vars(value).values()):
            code = sites.code_of(getattr(method, "__func__", method))
            if code is not None and not sites.foreign(code.co_filename):
                yield from _with_inner(code)


def _with_inner(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _with_inner(constant)
