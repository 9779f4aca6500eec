"""Where a function of the user's cuts a tensor off, and whether it does so each time: by its bytecode."""

from __future__ import annotations

import dis
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from gradcheck_lint.runtime.sites import Mark

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType

CUTS = frozenset({"detach", "detach_", "data", "item", "numpy", "tolist"})
OFF = frozenset({"no_grad", "inference_mode"})
_NAMES = ("LOAD_ATTR", "LOAD_METHOD", "LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF", "LOAD_FAST")


class Cutter(NamedTuple):
    """Something that cuts off, in the code of a function."""

    mark: Mark
    name: str


def cutters(code: CodeType, after: int, before: int | None = None) -> list[Cutter]:
    """What cuts tensors off between two places of a function; `before` None: up to its end."""
    return [
        cutter
        for cutter in _named(code, CUTS, ("LOAD_ATTR", "LOAD_METHOD"))
        if after < cutter.mark.last and (before is None or cutter.mark.last < before)
    ]


def switched_off(code: CodeType, at: int) -> Cutter | None:
    """What was switched off last before a place of a function, as far as its text tells."""
    found = [cutter for cutter in _named(code, OFF, _NAMES) if cutter.mark.last < at]
    return found[-1] if found else None


@lru_cache(512)
def value_only(code: CodeType, attribute: str) -> Cutter | None:
    """Where a function takes the value of an attribute, if it does nothing else with that."""
    instructions = [at for at in dis.get_instructions(code) if at.opname not in ("CACHE", "PRECALL")]
    found: Cutter | None = None
    for asked, following in pairwise(instructions):
        if asked.opname in ("LOAD_ATTR", "LOAD_METHOD") and asked.argval == attribute:
            if following.opname not in ("LOAD_ATTR", "LOAD_METHOD") or following.argval not in CUTS:
                return None
            found = found or Cutter(Mark(code, following.offset, _line(code, following.offset)), str(following.argval))
    return found


def always(code: CodeType, place: int, with_: int) -> bool:
    """Whether one place of a function is come to whenever another is, as far as its text tells."""
    return _conditions(code, place) <= _conditions(code, with_)


def straight(code: CodeType, place: int) -> bool:
    """Whether a place of a function is come to whenever the function runs."""
    return not _conditions(code, place)


def mentions(code: CodeType, name: str) -> int:
    """How often a function names a method or a function."""
    if name not in code.co_names:
        return 0
    return sum(at.argval == name and at.opname in _NAMES for at in dis.get_instructions(code))


def _conditions(code: CodeType, place: int) -> set[int]:
    """The jumps and returns that may leave a place out, by their offsets: those over it, and what ends before it."""
    found: set[int] = set()
    for at in dis.get_instructions(code):
        if at.offset >= place:
            break
        over = "JUMP" in at.opname and isinstance(at.argval, int) and at.argval > place
        ends = at.opname in ("RETURN_VALUE", "RETURN_CONST")
        if over or ends:
            found.add(at.offset)
    return found


def _named(code: CodeType, names: frozenset[str], by: tuple[str, ...]) -> Iterator[Cutter]:
    if names.isdisjoint((*code.co_names, *code.co_varnames)):
        return
    for at in dis.get_instructions(code):
        if at.opname in by and at.argval in names:
            yield Cutter(Mark(code, at.offset, _line(code, at.offset)), str(at.argval))


def _line(code: CodeType, offset: int) -> int:
    for start, end, line in code.co_lines():
        if line is not None and start <= offset < end:
            return line
    return code.co_firstlineno
