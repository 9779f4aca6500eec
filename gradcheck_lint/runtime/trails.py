"""By which calls a line was reached, and whether two lie in one loop: asked only when something is suspected."""

from __future__ import annotations

import dis
import sys
from itertools import pairwise
from types import CodeType, FrameType
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gradcheck_lint.runtime.sites import Mark

Trail = tuple[tuple[CodeType, int], ...]
"""The code that was running and where in it, the outermost first."""


def trail(depth: int = 1) -> Trail:
    """The calls that are running now, without `depth` of ours."""
    frame: FrameType | None = sys._getframe(depth)
    found = []
    while frame is not None:
        found.append((frame.f_code, frame.f_lasti))
        frame = frame.f_back
    return tuple(reversed(found))


def same_calls(one: Trail, other: Trail, but: int = 0) -> bool:
    """Whether two trails are the same line reached by the same calls; the innermost `but` do not matter."""
    one, other = one[: len(one) - but], other[: len(other) - but]
    return (
        bool(one)
        and len(one) == len(other)
        and all(a[0] is b[0] and a[1] == b[1] for a, b in zip(one, other, strict=True))
    )


def left_loop(inner: Trail, after: Trail) -> bool | None:
    """Whether `after` lies outside of the innermost loop that `inner` is in; None if that cannot be told.

    Both are compared in the innermost function that they have in common.
    """
    for (code, here), (other, there) in zip(inner, after, strict=False):
        if code is not other:
            return None
        if here != there:
            around = [span for span in _loops(code) if span[0] <= here <= span[1]]
            if not around:
                return None
            start, end = min(around, key=lambda span: span[1] - span[0])
            return not start <= there <= end
    return None


def same_rounds(one: Mark | None, other: Mark | None) -> bool:
    """Whether a line is in all the loops of its function that another line of that function is in."""
    if one is None or other is None or one.code is not other.code:
        return False
    around = [(start, end) for start, end in _loops(other.code) if start <= other.last <= end]
    return bool(around) and all(start <= one.last <= end for start, end in around)


def in_loop(code: CodeType, offset: int) -> bool:
    """Whether a place of a function is in a loop of it."""
    return any(start <= offset <= end for start, end in _loops(code))


def divides(code: CodeType) -> bool:
    """Whether a function takes the rest of a division, as who counts batches does."""
    return any(at.argrepr in ("%", "%=") or at.opname == "BINARY_MODULO" for at in dis.get_instructions(code))


def calls(code: CodeType, name: str, method: str) -> bool:
    """Whether the code has a call of `name.method` anywhere, executed or not."""
    words = [at.argval for at in dis.get_instructions(code) if isinstance(at.argval, str)]
    return bool(name) and any(one == name and two == method for one, two in pairwise(words))


def outside(frames: Sequence[FrameType], names: Callable[[FrameType], set[str]], method: str) -> Call | None:
    """A call of `name.method` that will come when the loop is over that is running in these frames, and comes again.

    frames: innermost first. That loop is the innermost one of the first frame that is in one; the call stands in a loop
    around it, in the same function or in one that has called it.
    """
    inner: tuple[int, int] | None = None
    for frame in frames:
        code, here = frame.f_code, frame.f_lasti
        around = sorted(
            (span for span in _loops(code) if span[0] <= here <= span[1]), key=lambda span: span[1] - span[0]
        )
        if inner is None and around:
            inner = within = around.pop(0)
        else:
            within = (0, -1)
        if around and method in code.co_names:
            wanted = names(frame)
            for offset in _calls(code, wanted, method):
                if not within[0] <= offset <= within[1] and around[-1][0] <= offset <= around[-1][1]:
                    return Call(code, offset, _line_of(code, offset))
    return None


def _calls(code: CodeType, names: set[str], method: str) -> Iterator[int]:
    """Where the code calls `name.method`."""
    word: object = None
    called = False
    for instruction in dis.get_instructions(code):
        if called and instruction.opname.startswith("CALL"):
            yield instruction.offset
            called = False
        if isinstance(instruction.argval, str):
            called = instruction.argval == method and word in names
            word = instruction.argval


class Call(NamedTuple):
    """A call in a piece of code, by the offset of its instruction."""

    code: CodeType
    offset: int
    line: int


def _line_of(code: CodeType, offset: int) -> int:
    lines = [line for start, end, line in code.co_lines() if start <= offset < end and line is not None]
    return lines[0] if lines else code.co_firstlineno


def _loops(code: CodeType) -> list[tuple[int, int]]:
    """The stretches of bytecode that are gone through again: from where jumps back lead, to the last of those jumps.

    From Python 3.12 on an `if` at the end of a loop has a jump of its own, before what it leaves out.
    """
    jumps = {*dis.hasjrel, *dis.hasjabs}
    ends: dict[int, int] = {}
    for instruction in dis.get_instructions(code):
        start = instruction.argval
        if instruction.opcode in jumps and isinstance(start, int) and start < instruction.offset:
            ends[start] = max(instruction.offset, ends.get(start, 0))
    return list(ends.items())
