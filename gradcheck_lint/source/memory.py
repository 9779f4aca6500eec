"""Remembers what was found in files that have not changed.

A folder holds one JSON file for each island, named after everything that its findings depend on: gradlint itself, the
rules that are on, Python's version, and the names and bytes of its files. The other files that were read for them are
named inside, with their digests. Whatever cannot be read or written is treated as not remembered.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from gradcheck_lint import __version__
from gradcheck_lint.finding import Confidence, Edit, Finding, Fix, Related, Safety, Severity, Span

if TYPE_CHECKING:
    from pathlib import Path

    from gradcheck_lint.rule import Rule
    from gradcheck_lint.source.file import SourceFile

DAYS = 14  # an entry that nobody asked for in so long is deleted


class Memory:
    """The folder `.gradlint_cache`, seen by one run."""

    def __init__(self, folder: Path, rules: Sequence[Rule], roots: Sequence[str]) -> None:
        self.folder = folder
        digest = hashlib.sha256(f"{__version__} {sys.version_info[:2]} {sorted(roots)}".encode())
        for part in sorted(_stamps(rules)):
            digest.update(part.encode())
        self.base = digest.digest()
        self.ready = False

    def name(self, files: Sequence[SourceFile]) -> str:
        digest = hashlib.sha256(self.base)
        for file in files:
            digest.update(f"{file.path}\0{file.real}\0{len(file.data)}\0".encode("utf-8", "surrogateescape"))
            digest.update(file.data)
        return digest.hexdigest()[:40]

    def recall(self, files: Sequence[SourceFile]) -> list[Finding] | None:
        """What was found in these files, or None if that is not known any more."""
        path = self.folder / f"{self.name(files)}.json"
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
            if any(_digest(other) != digest for other, digest in kept["others"].items()):
                return None
            found = [_finding(each) for each in kept["findings"]]
            os.utime(path)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return found

    def keep(self, files: Sequence[SourceFile], findings: Sequence[Finding], others: Sequence[str]) -> None:
        """Remember what was found."""
        record = {
            "others": {other: _digest(other) for other in others},
            "findings": [dataclasses.asdict(finding) for finding in findings],
        }
        try:
            self.prepare()
            handle, temporary = tempfile.mkstemp(dir=self.folder, suffix=".tmp")
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(record, file)
            os.replace(temporary, self.folder / f"{self.name(files)}.json")
        except (OSError, ValueError):
            return

    def prepare(self) -> None:
        """Make the folder, keep it out of version control and backups, and forget what is old."""
        if self.ready:
            return
        self.ready = True
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, text in ((".gitignore", "*\n"), ("CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55\n")):
            if not (self.folder / name).exists():
                (self.folder / name).write_text(text, encoding="utf-8")
        limit = time.time() - DAYS * 86_400
        for entry in os.scandir(self.folder):
            if entry.name.endswith((".json", ".tmp")) and entry.stat().st_mtime < limit:
                os.unlink(entry.path)


def _stamps(rules: Sequence[Rule]) -> Iterator[str]:
    """What tells one version of gradlint and of the rules from another, while they are being worked on too."""
    here = os.path.dirname(os.path.abspath(__file__))
    package = os.path.dirname(here)
    for folder in (here, package, os.path.join(package, "facts")):
        for entry in os.scandir(folder):
            if entry.name.endswith(".py"):
                status = entry.stat()
                yield f"{entry.name} {status.st_mtime_ns} {status.st_size}"
    for rule in rules:
        file = getattr(sys.modules.get(type(rule).__module__), "__file__", None)
        stamp = f"{os.stat(file).st_mtime_ns}" if file and os.path.exists(file) else ""
        yield f"{rule.code} {type(rule).__qualname__} {stamp}"


def _digest(path: str) -> str | None:
    try:
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
    except OSError:
        return None


def _finding(data: dict[str, Any]) -> Finding:
    fix = data.pop("fix")
    if fix is not None:
        edits = tuple(Edit(Span(**edit["span"]), edit["text"]) for edit in fix["edits"])
        fix = Fix(fix["title"], Safety(fix["safety"]), edits)
    related = tuple(Related(each["message"], Span(**each["span"])) for each in data.pop("related"))
    severity, confidence = Severity(data.pop("severity")), Confidence(data.pop("confidence"))
    span = Span(**data.pop("span"))
    return Finding(severity=severity, confidence=confidence, span=span, related=related, fix=fix, **data)
