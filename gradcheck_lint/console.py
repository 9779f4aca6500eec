"""The terminal that the command runs in: whether it takes colours, a progress bar, one-line messages."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time
from typing import TYPE_CHECKING, Any, TextIO

from gradcheck_lint.report.terminal import BOLD, RED, YELLOW, Paint, clean

if TYPE_CHECKING:
    from types import TracebackType

_PATIENCE = 1.0  # seconds that pass before a progress bar is worth looking at
_PAUSE = 0.1  # seconds between two pictures of it
_CELLS = 24


def colourful(stream: TextIO) -> bool:
    """Whether to write colours to `stream`: NO_COLOR and FORCE_COLOR decide, else whether somebody looks at it."""
    if os.environ.get("NO_COLOR"):
        return False
    forced = os.environ.get("FORCE_COLOR")
    if forced:
        return forced != "0"
    return os.environ.get("TERM") != "dumb" and is_terminal(stream)


def is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except (AttributeError, OSError, ValueError):  # it is closed, or something else that a program has put there
        return False


def forgiving(stream: Any) -> None:
    """Make `stream` write what its encoding cannot as an escape, where it would raise."""
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="backslashreplace")


def unwritable(stream: TextIO, error: OSError) -> bool:
    """Whether an error comes from writing to `stream`, say on a full disk; nothing more is written to it then."""
    try:
        stream.flush()  # what could not be written is still there, and fails once more
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or error.filename is not None:
            return False
    except (OSError, ValueError):
        pass
    with contextlib.suppress(OSError, ValueError):  # Python would try again at its end
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    return True


def tell(kind: str, message: str) -> None:
    """One line on stderr: `error: ...`, `warning: ...`."""
    paint = Paint(colourful(sys.stderr))
    style = {"error": RED, "warning": YELLOW}.get(kind, BOLD)
    say(f"{paint(f'{kind}:', style)} {clean(message)}\n")


def say(text: str) -> None:
    """Write to stderr, if there is one that takes it: a program can have closed it, or put anything in its place."""
    with contextlib.suppress(AttributeError, OSError, ValueError):
        sys.stderr.write(text)
        sys.stderr.flush()


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


class Progress:
    """A bar on stderr, if that is a terminal and the work takes long. A context that leaves the line empty."""

    def __init__(self, *, on: bool) -> None:
        self._on = on and is_terminal(sys.stderr)
        self._start = self._last = time.monotonic()
        self._drawn = False

    def __call__(self, done: int, total: int) -> None:
        """`done` of `total` files are checked."""
        now = time.monotonic()
        if not self._on or now - self._start < _PATIENCE or now - self._last < _PAUSE:
            return
        self._last = now
        self._drawn = True
        cells = _CELLS * done // max(total, 1)
        bar = "#" * cells + "." * (_CELLS - cells)
        sys.stderr.write(f"\r[{bar}] {done} of {total} files")
        sys.stderr.flush()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
