"""Gives a file new bytes in one step: a new file is made beside it and takes its place.

At every moment, whatever is killed or fails, the file holds either its old bytes or its new ones. Besides its bytes it
loses nothing: mode, owner, group and extended attributes go along. Where one of them cannot, and where the file has a
second name (a hard link, which would keep the old bytes), it is left as it is.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import tempfile
import time

from gradcheck_lint.files import lies_in, read_regular
from gradcheck_lint.source.file import LARGEST

_PREFIX, _SUFFIX = ".gradlint-fix-", ".tmp"
_LEFT_OVER = re.compile(r"\.gradlint-fix-[a-z0-9_]{8}\.tmp")
_OLD = 3600.0  # seconds; no run takes so long between making such a file and putting it into its place


class RefusedError(Exception):
    """The file stays as it is; the message completes the sentence "it ..."."""


def place_of(path: str | os.PathLike[str]) -> str:
    """Where the file really lies that is to be written: a link stays one, and what it leads to is written.

    A link that leads out of its folder and of the working directory is refused: a repository can hold a link to any
    file, and who lints it has not meant that one.
    """
    real = os.path.realpath(path)
    if os.path.islink(path):
        homes = (os.path.realpath(os.path.dirname(os.path.abspath(path))), os.path.realpath(os.getcwd()))
        if not lies_in(real, homes):
            raise RefusedError(f"is a link that leads to {real}; name that file if you mean it")
    return real


def stage(real: str, old: bytes, new: bytes) -> str:
    """Put `new` into a file beside `real`, which must still hold `old`, and give back its path.

    Raises RefusedError, or OSError.
    """
    if read_regular(real, max(LARGEST, len(old), len(new))) not in (old, new):
        raise RefusedError("has changed since it was linted; run gradlint again")
    if not os.access(real, os.W_OK):
        raise RefusedError("is read-only; make it writable, or leave it out")
    status = os.stat(real)
    if status.st_nlink > 1:
        raise RefusedError(f"has {status.st_nlink} names (hard links), and would keep one of them; give it a copy")
    folder = os.path.dirname(real)
    _clear(folder)
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=_PREFIX, suffix=_SUFFIX)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(new)
            file.flush()
            os.fsync(file.fileno())  # else the name could be on the disk before the bytes are
        _dress(temporary, real, status)
    except BaseException:
        os.unlink(temporary)
        raise
    return temporary


def put(temporary: str, real: str) -> None:
    """Let a staged file take its place."""
    os.replace(temporary, real)
    if hasattr(os, "O_DIRECTORY"):
        with contextlib.suppress(OSError):  # some file systems cannot, and the file is whole all the same
            handle = os.open(os.path.dirname(real), os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def _dress(temporary: str, real: str, status: os.stat_result) -> None:
    """Give the new file all that the old one has besides its bytes and times."""
    if hasattr(os, "chown"):
        with contextlib.suppress(PermissionError):
            os.chown(temporary, status.st_uid, status.st_gid)
        made = os.stat(temporary)
        if (made.st_uid, made.st_gid) != (status.st_uid, status.st_gid):
            raise RefusedError("belongs to another user or group, and would not any more; fix it as its owner")
    shutil.copystat(real, temporary)  # after `chown`, which takes set-id bits away
    os.utime(temporary)
    if stat.S_IMODE(os.stat(temporary).st_mode) != stat.S_IMODE(status.st_mode):
        raise RefusedError("has a mode that a new file cannot have")
    if _attributes(real) - _attributes(temporary):
        raise RefusedError("has extended attributes that a new file cannot have")


def _attributes(path: str) -> set[tuple[str, bytes]]:
    """The extended attributes; those of the system's security are its own matter."""
    if not hasattr(os, "listxattr"):
        return set()
    try:
        names = [name for name in os.listxattr(path) if not name.startswith("security.")]
        return {(name, os.getxattr(path, name)) for name in names}
    except OSError:  # the file system has none
        return set()


def _clear(folder: str) -> None:
    """Delete what a killed run has left in a folder: regular files of this user's with such a name, and not new."""
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            if not _LEFT_OVER.fullmatch(name):
                continue
            path = os.path.join(folder, name)
            status = os.lstat(path)
            own = not hasattr(os, "geteuid") or status.st_uid == os.geteuid()
            if stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and own and status.st_mtime < time.time() - _OLD:
                os.unlink(path)
