"""Whether an optimizer may still come for parameters that none holds: asked of the code at hand, by its bytecode."""

from __future__ import annotations

import dis
from typing import TYPE_CHECKING

from gradcheck_lint.runtime.by_hand import may_move_weights
from gradcheck_lint.runtime.codes import reachable
from gradcheck_lint.runtime.trails import in_loop

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from types import CodeType, FrameType

    from gradcheck_lint.runtime.sites import Mark

_ADDS = "add_param_group"
_DEEP = 8  # functions that have called one another


def settled(built: Collection[Mark | None], frames: Sequence[FrameType]) -> bool:
    """Whether all code that could hand over parameters, or move them itself, has been seen to run, and runs once.

    built: where the optimizers were built that there are.
    """
    codes = list(reachable(frames))
    if any(mark is None for mark in built) or may_move_weights(codes):
        return False
    kinds = _kinds()
    lines = {(mark.code, mark.line) for mark in built if mark is not None}
    for code in codes:
        named = kinds.intersection(code.co_names)
        if _ADDS in code.co_names or (named and not {(code, line) for _, line in _asks(code, named)} <= lines):
            return False
    return all(_runs_once(mark.code, mark.last, codes) for mark in built if mark is not None)


def _kinds() -> set[str]:
    """The names of all classes of optimizers."""
    from torch.optim import Optimizer

    found: set[str] = set()
    todo = [Optimizer]
    while todo:
        for kind in type.__subclasses__(todo.pop()):
            if kind.__name__ not in found:
                found.add(kind.__name__)
                todo.append(kind)
    return found


def _asks(code: CodeType, names: Iterable[str]) -> list[tuple[int, int]]:
    """Where a code asks for one of these names: the offset and the line of the instruction."""
    found: list[tuple[int, int]] = []
    line = code.co_firstlineno
    wanted = set(names)
    for instruction in dis.get_instructions(code):
        starts = instruction.starts_line
        if isinstance(starts, int) and not isinstance(starts, bool):
            line = starts
        elif starts and isinstance(number := getattr(instruction, "line_number", None), int):
            line = number
        value = instruction.argval
        if instruction.opname.startswith("LOAD_") and isinstance(value, str) and value in wanted:
            found.append((instruction.offset, line))
    return found


def _runs_once(code: CodeType, offset: int, codes: Sequence[CodeType], deep: int = _DEEP) -> bool:
    """Whether a place in a function is come to once, as far as the calls of it by name tell."""
    if deep == 0 or in_loop(code, offset):
        return False
    if code.co_name == "<module>":
        return True
    calls = [
        (other, at)
        for other in codes
        if other is not code and code.co_name in {*other.co_names, *other.co_varnames, *other.co_cellvars}
        for at, _ in _asks(other, {code.co_name})
    ]
    return len(calls) == 1 and _runs_once(*calls[0], codes, deep - 1)
