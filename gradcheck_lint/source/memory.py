"""Remembers what was found in files that have not changed.

Each island has an entry in the store, named after what is known before its files are read: gradlint itself, the rules
that are on, Python, and the names and bytes of its files. Inside is what its findings rest on besides: the other files
that were read, with their digests, and which file each import means, or that there is none. An entry counts if all of
that is still so. Whatever cannot be read or written is treated as not remembered.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING

from gradcheck_lint import __version__
from gradcheck_lint.files import read_regular
from gradcheck_lint.source import limits
from gradcheck_lint.source.entry import SpoiltError, parse, text_of
from gradcheck_lint.source.file import digest

if TYPE_CHECKING:
    from gradcheck_lint.rule import Rule
    from gradcheck_lint.source.file import SourceFile
    from gradcheck_lint.source.outcome import Island, Outcome
    from gradcheck_lint.source.project import Finder
    from gradcheck_lint.source.store import Store


class Memory:
    """What one run remembers of those before it."""

    def __init__(self, store: Store, rules: Sequence[Rule], finder: Finder, triggers: Sequence[str] = ()) -> None:
        self.store, self.finder = store, finder
        known = f"{__version__} {sys.version} {sorted(finder.roots)!r} {sorted(triggers)!r}"
        base = hashlib.sha256(known.encode("utf-8", "backslashreplace"))
        for part in sorted(_stamps(rules)):
            base.update(part.encode("utf-8", "backslashreplace"))
        self.base = base.digest()
        self._digest = cache(_digest)
        self._files: dict[str, tuple[SourceFile, str]] = {}  # by path

    def name(self, island: Island) -> str:
        whole = hashlib.sha256(self.base)
        for file in (*island.files, None, *island.beside):
            if file is None:
                whole.update(b"\0")
                continue
            head = f"{file.path}\0{os.path.abspath(file.real)}\0{self._bytes_of(file)}\0"
            whole.update(head.encode("utf-8", "backslashreplace"))
        return whole.hexdigest()[:40]

    def _bytes_of(self, file: SourceFile) -> str:
        """The digest of a file of this run, made once: it lies beside each of the other parts of its island."""
        known = self._files.get(file.path)
        if known is None or known[0] is not file:
            known = self._files[file.path] = file, digest(file.data)
        return known[1]

    def recall(self, island: Island) -> Outcome | None:
        """What came of these files, or None if that is not known any more."""
        body = self.store.read(self.name(island))
        if body is None:
            return None
        try:
            outcome = parse(body.decode(), island.paths)
        except (SpoiltError, UnicodeDecodeError):
            return None
        if any(self.finder.find(*question) != answer for question, answer in outcome.basis.asked):
            return None
        if any(self._digest(other) != known for other, known in outcome.basis.others):
            return None
        return outcome

    def keep(self, island: Island, outcome: Outcome) -> None:
        """Remember what came of them."""
        self.store.write(self.name(island), text_of(outcome).encode())


def _stamps(rules: Sequence[Rule]) -> Iterator[str]:
    """What tells one version of gradlint, of the rules and of libcst from another, while they are worked on too."""
    here = os.path.dirname(os.path.abspath(__file__))
    package = os.path.dirname(here)
    folders = {package, *(folder for folder, _, _ in os.walk(here))}
    folders |= {os.path.join(package, name) for name in ("facts", "laws")}
    for rule in rules:
        yield f"{rule.code} {type(rule).__module__}.{type(rule).__qualname__}"
        file = getattr(sys.modules.get(type(rule).__module__), "__file__", None)
        if file:
            folders.add(os.path.dirname(os.path.abspath(file)))  # with what the rule shares with its neighbours
    mender = importlib.util.find_spec("libcst")
    if mender is not None and mender.origin:
        folders.add(os.path.dirname(mender.origin))
    for folder in folders:
        for entry in os.scandir(folder):
            if entry.name.endswith(".py"):
                status = entry.stat()
                yield f"{entry.path} {status.st_mtime_ns} {status.st_size}"


def _digest(path: str) -> str | None:
    try:
        return digest(read_regular(path, limits.LARGEST_IMPORTED))  # a larger one was not read either
    except (OSError, ValueError):
        return None
