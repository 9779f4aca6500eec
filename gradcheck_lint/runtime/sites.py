"""Which line of the user's own code is running: frames of torch, of frameworks and of gradlint are passed over.

A `Mark` costs a microsecond and holds no frame; it becomes a `Site` only when something is said about it.
"""

from __future__ import annotations

import ast
import inspect
import linecache
import os
import signal
import sys
import sysconfig
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any, NamedTuple

from gradcheck_lint.runtime.record import Site

if TYPE_CHECKING:
    from collections.abc import Mapping

_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_LIBRARIES = tuple(
    {
        os.path.join(path, "")
        for name in ("stdlib", "platstdlib", "purelib", "platlib")
        if (path := sysconfig.get_path(name))
    }
)
_known: dict[str, bool] = {}
_shown: dict[str, str] = {}
_claimed: list[str] = []  # beginnings of paths
_files: dict[str, str] = {}  # shown path → the file that Python knows
_resolved: dict[tuple[int, int], tuple[CodeType, Site]] = {}  # marks that were looked up, by code and instruction
_MOST = 2000  # of them


class Mark(NamedTuple):
    """A place in running code, not yet looked up."""

    code: CodeType
    last: int  # the offset of the bytecode instruction
    line: int


def ours(file: str) -> bool:
    """Whether a file belongs to gradlint."""
    return file.startswith(_OURS) and file.endswith(".py")


def claim(path: str) -> None:
    """Files whose paths begin like this are the user's, although they may be installed."""
    _claimed.append(path)
    _known.clear()


def foreign(file: str) -> bool:
    """Whether a file belongs to Python, an installed package or gradlint, and not to the user."""
    known = _known.get(file)
    if known is None:
        known = file.startswith("<frozen") or ours(file)
        known = known or file.startswith(_LIBRARIES) or f"{os.sep}site-packages{os.sep}" in file
        known = known and not file.startswith(tuple(_claimed))
        _known[file] = known
    return known


def frames(depth: int = 1) -> list[FrameType]:
    """The user's frames that are running, innermost first; all but ours if none of them is the user's."""
    frame: FrameType | None = sys._getframe(depth)
    own, every = [], []
    while frame is not None:
        if not ours(frame.f_code.co_filename):
            every.append(frame)
        if not foreign(frame.f_code.co_filename):
            own.append(frame)
        frame = frame.f_back
    return own or every


def here(depth: int = 1) -> Mark | None:
    """The innermost place in the user's code; `depth` frames of ours are skipped unseen."""
    frame: FrameType | None = sys._getframe(depth)
    known = _known
    while frame is not None:
        code = frame.f_code
        file = code.co_filename
        if not (known[file] if file in known else foreign(file)):
            return Mark(code, frame.f_lasti, frame.f_lineno)
        frame = frame.f_back
    return None


def code_of(function: object) -> CodeType | None:
    """The code of a function as it was written, under its decorators; None if it is no function of Python's."""
    return getattr(inspect.unwrap(function), "__code__", None) if callable(function) else None


def in_a_handler(error: BaseException) -> bool:
    """Whether an error was raised by the program's own handler of a signal, which may run at any moment."""
    handlers = [signal.getsignal(number) for number in signal.valid_signals()]
    codes = [getattr(handler, "__code__", None) for handler in handlers if callable(handler)]
    trace = error.__traceback__
    while trace is not None:
        if any(trace.tb_frame.f_code is code for code in codes):
            return True
        trace = trace.tb_next
    return False


def variables(frame: FrameType) -> Mapping[str, Any]:
    """The variables of a frame, as they are now.

    Up to Python 3.12 `f_locals` is a dictionary that the frame keeps, and that `locals()` hands to the program as well:
    reading it would keep the variables' old values alive, and change what the program got from `locals()`. So it is
    emptied again, and a function that may have asked for it is not looked into.
    """
    code = frame.f_code
    if not code.co_flags & inspect.CO_OPTIMIZED:  # a module or the body of a class, whose variables are no copy
        return frame.f_locals
    if sys.version_info >= (3, 13):
        return dict(frame.f_locals)
    if not _ASKING.isdisjoint(code.co_names):
        return {}
    kept = frame.f_locals
    found = dict(kept)
    if sys.getrefcount(kept) <= _HELD_BY_ITS_FRAME:
        kept.clear()
    return found


def _held_by_its_frame() -> int:
    kept = sys._getframe().f_locals
    return sys.getrefcount(kept)


_ASKING = frozenset({"locals", "vars", "dir", "eval", "exec"})
_HELD_BY_ITS_FRAME = _held_by_its_frame()


def builder(depth: int = 1) -> Mark | None:
    """Like `here`, but outside of the `__init__` of a module: where the user builds it, or changes it."""
    from torch.nn import Module

    frame: FrameType | None = sys._getframe(depth)
    found: Mark | None = None
    while frame is not None:
        code = frame.f_code
        if not foreign(code.co_filename):
            found = Mark(code, frame.f_lasti, frame.f_lineno)
            first = code.co_varnames[0] if code.co_name == "__init__" and code.co_argcount else ""
            owner = variables(frame).get(first) if first else None
            if not issubclass(type(owner), Module):
                break
        frame = frame.f_back
    return found


def resolve(mark: Mark | None) -> Site | None:
    """The line, the columns (where Python keeps them, from 3.11) and the text of a mark."""
    if mark is None:
        return None
    key = (id(mark.code), mark.last)
    known = _resolved.get(key)
    if known is None or known[0] is not mark.code:
        if len(_resolved) > _MOST:
            _resolved.clear()
        known = _resolved[key] = (mark.code, _looked_up(mark))
    return known[1]


def _looked_up(mark: Mark) -> Site:
    path = shown(mark.code.co_filename)
    line, column, end_line, end_column = _span(mark)
    text = linecache.getline(mark.code.co_filename, line).rstrip("\n")
    if column == 0 or (end_line == line and end_column <= column):  # not known, or of an instruction without text
        column = len(text) - len(text.lstrip()) + 1
        end_line, end_column = line, max(len(text.rstrip()), column) + 1
    elif text:  # columns come as offsets in UTF-8
        raw = text.encode()
        column = len(raw[: column - 1].decode(errors="ignore")) + 1
        if end_line == line:
            end_column = len(raw[: end_column - 1].decode(errors="ignore")) + 1
    piece = text[column - 1 : end_column - 1] if end_line == line else text[column - 1 :].rstrip()
    return Site(path, line, column, end_line, end_column, piece.strip())


def of_class(kind: type, method: CodeType | None) -> Site | None:
    """The line at which a class begins in the file that has one of its methods; None if that cannot be read."""
    if method is None:
        return None
    try:
        tree = ast.parse("".join(linecache.getlines(method.co_filename)))
    except (SyntaxError, ValueError, RecursionError):
        return None
    around = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        and node.name == kind.__name__
        and node.lineno <= method.co_firstlineno <= (node.end_lineno or node.lineno)
    ]
    if not around:
        return None
    line = max(node.lineno for node in around)
    text = linecache.getline(method.co_filename, line).rstrip("\n")
    begin = text.find(kind.__name__) + 1
    return Site(shown(method.co_filename), line, begin, line, begin + len(kind.__name__), kind.__name__)


def _span(mark: Mark) -> tuple[int, int, int, int]:
    positions = getattr(mark.code, "co_positions", None)
    if positions is not None:
        for index, (line, end_line, column, end_column) in enumerate(positions()):
            if index == mark.last // 2:
                if None not in (line, end_line, column, end_column):
                    return line, column + 1, end_line, end_column + 1
                break
    return mark.line, 0, mark.line, 0


def shown(file: str) -> str:
    """A path as it is shown: from the working directory if it lies in it, with forward slashes.

    That is the directory in which the file was met first, for a program may go to another one meanwhile.
    """
    known = _shown.get(file)
    if known is None:
        known = file
        if not file.startswith("<"):
            path = os.path.abspath(file)
            here = os.path.join(os.getcwd(), "")
            known = (path[len(here) :] if path.startswith(here) else path).replace(os.sep, "/")
        _shown[file] = known
        _files[known] = file
    return known


def forget() -> None:
    """Begin to show paths from where the program is now."""
    _shown.clear()
    _resolved.clear()


def file(path: str) -> str:
    """The file that is shown as `path`, as Python knows it."""
    return _files.get(path, path)


def whole(path: str) -> str:
    """The text of a file by its shown path, as Python knows it; empty where it cannot be read."""
    return "".join(linecache.getlines(file(path)))


def around(path: str, line: int, lines: int) -> dict[int, str]:
    """The text of a line and of so many lines before and after it, by number; what Python knows of the file."""
    text = linecache.getlines(file(path))
    first = max(line - lines, 1)
    return {number: text[number - 1].rstrip("\r\n") for number in range(first, min(line + lines, len(text)) + 1)}
