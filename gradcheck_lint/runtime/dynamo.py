"""Keeps torch.compile away from our own functions.

Where a compiled function breaks, as it does at backward, dynamo goes on with every Python function that is called from
there, and so would compile ours: graphs, breaks and recompilations that the program does not have by itself. Marked
functions are run as they are. They are still read where they stand in the middle of a graph, as our wrappers do, which
then do nothing but call what they wrap.
"""

from __future__ import annotations

import sys
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_PACKAGE = __name__.partition(".")[0]
_done: set[str] = set()  # modules


def tracing() -> Callable[[], bool]:
    """The function that tells whether dynamo is reading the code around it, the cheapest one that torch has.

    Dynamo takes the answer for a constant, so what is done only if it is False leaves no trace in a graph.
    """
    import torch

    told: Callable[[], bool] = getattr(torch.compiler, "is_dynamo_compiling", torch.compiler.is_compiling)
    return told


def leave_alone() -> None:
    """Mark the functions of all modules of ours that are loaded; each module once. Takes a few milliseconds."""
    mark = _marker()
    if mark is None:
        return
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == _PACKAGE and name not in _done:
            _done.add(name)
            _mark(vars(module), name, mark)


def _marker() -> Callable[[CodeType], None] | None:
    """What torch marks a function with; None where it has no such thing."""
    import torch

    frames: Any = getattr(getattr(torch._C, "_dynamo", None), "eval_frame", None)
    if hasattr(frames, "set_code_exec_strategy"):
        skip = frames._FrameExecStrategy(frames._FrameAction.SKIP, frames._FrameAction.DEFAULT)
        return lambda code: frames.set_code_exec_strategy(code, skip)
    return getattr(frames, "skip_code", None)  # before torch 2.7


def _mark(names: Mapping[str, Any], module: str, mark: Callable[[CodeType], None]) -> None:
    """Mark the functions among these, those inside of them, and those of classes that are from this module."""
    for thing in list(names.values()):
        kind = type(thing)
        if kind is staticmethod or kind is classmethod:
            thing = thing.__func__
        elif kind is property:
            thing = thing.fget
        if type(thing) is FunctionType:
            _mark_within(thing.__code__, mark)
        elif isinstance(thing, type) and thing.__module__ == module:
            _mark(vars(thing), module, mark)


def _mark_within(code: CodeType, mark: Callable[[CodeType], None]) -> None:
    """Mark a function's code and that of the functions inside it."""
    mark(code)
    for constant in code.co_consts:
        if type(constant) is CodeType:
            _mark_within(constant, mark)
