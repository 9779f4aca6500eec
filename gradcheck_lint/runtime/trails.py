"""By which calls a line was reached, and whether two lie in one loop: asked only when something is suspected."""

from __future__ import annotations

import dis
import sys
from itertools import pairwise
from types import CodeType, FrameType

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


def calls(code: CodeType, name: str, method: str) -> bool:
    """Whether the code has a call of `name.method` anywhere, executed or not."""
    words = [at.argval for at in dis.get_instructions(code) if isinstance(at.argval, str)]
    return bool(name) and any(one == name and two == method for one, two in pairwise(words))


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
