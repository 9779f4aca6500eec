"""The folder of the cache: where it is, and how it is read, written and cleaned without harm.

It lies in the user's own folder for caches, unless an option, a variable or the configuration names another. That one
may lie in a linted repository, so nothing in it is trusted: links are not followed, a folder that holds other things is
not taken, nothing is deleted but regular files with names of ours, and what is read counts only if it is sealed with a
key that lies in the user's own folder. Files appear whole or not at all, so that two runs can share a folder.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING

from gradcheck_lint import places
from gradcheck_lint.errors import ConfigError, shown
from gradcheck_lint.files import NO_LINK, PLAIN, is_link, read_regular

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradcheck_lint.config import Settings

VARIABLE = "GRADLINT_CACHE_DIR"

DAYS = 14  # an entry that nobody asked for in so long is deleted
LARGEST = 50_000_000
"""Bytes of an entry; what was found in one island takes a few thousand."""

_ENTRY = re.compile(r"gradlint-[0-9a-f]{40}\.json")
_TEMPORARY = re.compile(r"gradlint-[0-9a-f]{32}\.tmp")
_KEY = "gradlint.key"
_TAG = "CACHEDIR.TAG"
_TAG_TEXT = "Signature: 8a477f597d28d172789f06886806bc55\n# gradlint remembers here what it found.\n"
_IGNORE = ".gitignore"
_PRUNED = "gradlint.pruned"  # its time says when old entries were last looked for
_DAY = 86_400.0


class Store:
    """One folder; the names of its files are those that `Memory` makes, 40 hexadecimal digits."""

    def __init__(self, folder: Path, key_folder: Path) -> None:
        self.folder = folder
        self._key_folder = key_folder
        self._key: bytes | None = None
        self._ready = False

    def read(self, name: str) -> bytes | None:
        """What was written under `name`, or None if there is nothing of ours."""
        path = self.folder / _entry(name)
        try:
            data = read_regular(path, LARGEST, follow=False)
            seal, newline, body = data[:64], data[64:65], data[65:]
            if newline != b"\n" or seal != self._seal(name, body):
                return None
            if time.time() - os.lstat(path).st_mtime > _DAY:
                os.utime(path)  # it is a regular file of ours, as its seal says
        except OSError:
            return None
        return body

    def write(self, name: str, body: bytes) -> None:
        """Put `body` under `name`; where that cannot be, nothing happens."""
        with contextlib.suppress(OSError):
            self._prepare()
            _put(self.folder / _entry(name), self._seal(name, body) + b"\n" + body)

    def clean(self) -> int:
        """Delete all entries; how many there were."""
        return sum(_delete(path) for path in self._ours())

    def _prepare(self) -> None:
        """Make the folder, keep it out of version control and backups, and forget what is old."""
        if self._ready:
            return
        self._ready = True
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not os.path.lexists(self.folder / _TAG):
            _put(self.folder / _TAG, _TAG_TEXT.encode())
            _put(self.folder / _IGNORE, b"*\n")
        stamp = self.folder / _PRUNED
        if not _older(stamp, 1) and os.path.lexists(stamp):
            return
        _put(stamp, b"")
        for path in self._ours():
            if _older(path, DAYS if _ENTRY.fullmatch(path.name) else 1):
                _delete(path)

    def _ours(self) -> Iterator[Path]:
        try:
            names = sorted(os.listdir(self.folder))
        except OSError:
            return
        for name in names:
            if _ENTRY.fullmatch(name) or _TEMPORARY.fullmatch(name):
                yield self.folder / name

    def _seal(self, name: str, body: bytes) -> bytes:
        """What only this user can have put before `body`. Raises OSError where there can be no key."""
        from hashlib import blake2b

        if self._key is None:
            self._key = _key(self._key_folder)
        return blake2b(name.encode() + body, key=self._key, digest_size=32).hexdigest().encode()


def open_for(settings: Settings) -> Store | None:
    """The store that `settings` and the environment name; None where this user can have none.

    Raises ConfigError for a folder that must not be used.
    """
    try:
        own = places.user_cache()
    except (OSError, RuntimeError):
        return None
    if not own.is_absolute():  # nobody's home
        return None
    named = os.environ.get(VARIABLE)
    folder = settings.cache_dir or (Path(named).absolute() if named else None)
    if folder is None:
        return Store(own, own)
    _check(folder, settings.root, settings.cache_origin if settings.cache_dir else VARIABLE)
    return Store(folder, own)


def _check(folder: Path, root: Path, origin: str) -> None:
    """Raise ConfigError for a folder behind a link, and for one that is not ours; `origin` is what names it."""
    named = f"the cache folder {shown(folder)}{f' of {origin}' if origin else ''}"
    cure = "name a new or empty one, or say --no-cache"
    for path in _on_the_way(folder, root):
        if is_link(path):
            raise ConfigError(f"{named} is behind a symbolic link, {shown(path)}; {cure}")
    try:
        inside = os.listdir(folder)
        tag = read_regular(folder / _TAG, 10_000, follow=False).decode("utf-8", "replace") if inside else _TAG_TEXT
    except FileNotFoundError:
        tag = "" if os.path.lexists(folder) else _TAG_TEXT
    except OSError as error:
        raise ConfigError(f"{named} cannot be used: {error.strerror}; {cure}") from None
    if tag != _TAG_TEXT:
        raise ConfigError(f"{named} holds things that are not gradlint's; {cure}")


def _on_the_way(folder: Path, root: Path) -> Iterator[Path]:
    """The folder, and those above it that can come with a repository: below the configuration, or where we run."""
    folder = Path(os.path.normpath(folder.absolute()))
    yield folder
    for path in folder.parents:
        if any(path != base and path.is_relative_to(base) for base in (root.absolute(), Path.cwd())):
            yield path


def _entry(name: str) -> str:
    return f"gradlint-{name}.json"


def _put(path: Path, data: bytes) -> None:
    """Write a file in one step. What was there before is replaced, also a link, which is not followed."""
    temporary = path.with_name(f"gradlint-{os.urandom(16).hex()}.tmp")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | PLAIN | NO_LINK, 0o600)
    try:
        with open(handle, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):  # another run may have cleaned up
            os.unlink(temporary)
        raise


def _delete(path: Path) -> bool:
    """Delete a regular file of this user's; links and all else stay."""
    try:
        status = os.lstat(path)
        if not stat.S_ISREG(status.st_mode) or is_link(path) or not _owned(status):
            return False
        os.unlink(path)
    except OSError:
        return False
    return True


def _older(path: Path, days: int) -> bool:
    try:
        return os.lstat(path).st_mtime < time.time() - days * _DAY
    except OSError:
        return False


def _key(folder: Path) -> bytes:
    """The key of this user on this machine, made when it is first asked for."""
    path = folder / _KEY
    key = _known_key(path)
    if key is None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _put(path, os.urandom(32))
        key = _known_key(path)  # of two processes that make one the last wins
    if key is None:
        raise OSError("there is no key of ours")
    return key


def _known_key(path: Path) -> bytes | None:
    try:
        status = os.lstat(path)
        private = os.name == "nt" or not stat.S_IMODE(status.st_mode) & 0o077
        key = read_regular(path, 32, follow=False)
    except OSError:
        return None
    return key if len(key) == 32 and private and _owned(status) else None


def _owned(status: os.stat_result) -> bool:
    return not hasattr(os, "geteuid") or status.st_uid == os.geteuid()
