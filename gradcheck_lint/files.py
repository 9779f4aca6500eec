"""Opening files that a stranger may have put there.

A linted repository can hold anything under any name: a pipe that nobody writes to, a link to a device without an end,
a link to a file of the user's that is not to be overwritten. What is read here is a regular file of a sensible size,
or an OSError says in a few words why it is not (`strerror`). Nothing here waits.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

LARGEST_SETTINGS = 1_000_000
"""Bytes of a file of settings or of a `.gitignore`; a larger one was made to do harm, or by mistake."""

PLAIN = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOCTTY", 0)
NO_LINK: int = getattr(os, "O_NOFOLLOW", 0)  # where a system has not got it, `lstat` is asked first
_AT_ONCE: int = getattr(os, "O_NONBLOCK", 0)

_HANDED_OVER = ("/dev/fd/", "/dev/stdin", "/proc/self/fd/")


class OddFileError(OSError):
    """It is no regular file."""


class TooLargeError(OSError):
    """It holds more than is wanted."""


def read_regular(path: str | os.PathLike[str], most: int, *, follow: bool = True) -> bytes:
    """The bytes of a regular file that holds at most `most`; with `follow=False` it may not be a link either."""
    # asked before it is opened too: to open a device can do something by itself
    _regular(os.stat(path, follow_symlinks=follow), path)
    with open(os.open(path, os.O_RDONLY | PLAIN | _AT_ONCE | (0 if follow else NO_LINK)), "rb") as file:
        status = os.fstat(file.fileno())
        _regular(status, path)
        if status.st_size > most:
            raise _too_large(status.st_size, most, path)
        data = file.read(most + 1)  # some files, of /proc for example, are longer than they say
    if len(data) > most:
        raise _too_large(len(data), most, path)
    return data


def read_handed_over(path: str, most: int) -> bytes:
    """What comes out of a pipe that the shell has opened for us; see `handed_over`."""
    with open(path, "rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise _too_large(len(data), most, path)
    return data


def handed_over(path: str | os.PathLike[str]) -> bool:
    """Whether `path` names a stream that the user has opened, as `gradlint <(git show HEAD:train.py)` does."""
    return os.fspath(path).startswith(_HANDED_OVER)


def lies_in(path: str, folders: Iterable[str]) -> bool:
    """Whether a path is one of some folders or lies in one; no link is looked for in any of them."""
    whole = os.path.normcase(path)
    homes = [os.path.normcase(folder) for folder in folders]
    return any(whole == home or whole.startswith(home.rstrip(os.sep) + os.sep) for home in homes)


def is_source(path: str) -> bool:
    """Whether a report that goes to this path would take the place of code: `-o train.py` is a slip."""
    return path.lower().endswith((".py", ".pyi", ".pyw", ".ipynb"))


def write_report(path: str, report: str | bytes) -> None:
    """Write a report to the file that the user names, or raise OSError.

    A link is not written through: in a repository it can lead to any file of the user's. Devices and the pipes of
    the shell are the user's own words (`/dev/null`, `>(less)`); a pipe that nobody reads is refused at once.
    """
    if not path.startswith(("/dev/", "/proc/self/fd/")) and is_link(path):
        raise OddFileError(0, "it is a symbolic link; name the file that it leads to, or delete it", path)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | PLAIN | _AT_ONCE
    handle = os.open(path, flags | (0 if path.startswith(("/dev/", "/proc/")) else NO_LINK), 0o666)
    if _AT_ONCE:
        os.set_blocking(handle, True)
    with open(handle, "wb") as file:
        file.write(report if isinstance(report, bytes) else report.encode("utf-8", "backslashreplace"))


def is_link(path: str | os.PathLike[str]) -> bool:
    """Whether it is a symbolic link, or what Windows has of that kind."""
    try:
        status = os.lstat(path)
    except OSError:
        return False
    junction = getattr(stat, "IO_REPARSE_TAG_MOUNT_POINT", None)
    return stat.S_ISLNK(status.st_mode) or getattr(status, "st_reparse_tag", -1) == junction


def _regular(status: os.stat_result, path: str | os.PathLike[str]) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(21, "is a directory", os.fspath(path))
    if stat.S_ISLNK(status.st_mode):
        raise OddFileError(0, "it is a symbolic link", os.fspath(path))
    if not stat.S_ISREG(status.st_mode):
        raise OddFileError(0, "not a regular file", os.fspath(path))


def _too_large(size: int, most: int, path: str | os.PathLike[str]) -> TooLargeError:
    return TooLargeError(0, f"too large: {_megabytes(size)}, and {_megabytes(most)} is the limit", os.fspath(path))


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB" if size >= 10_000_000 else f"{size / 1e6:.3g} MB"
