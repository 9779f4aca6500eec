"""The findings that a project knows of and has put off: what is in its baseline is not told again.

A finding is known by its file, its rule and the text of its line, so that it stays known while code around it moves;
of equal ones it is counted how many there are. A baseline only shrinks by itself: what is fixed goes, and what is new
comes in where somebody asks for it.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from gradcheck_lint.errors import ConfigError, shown
from gradcheck_lint.files import read_regular, write_report
from gradcheck_lint.finding import Confidence
from gradcheck_lint.result import UNCHECKED

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from gradcheck_lint.finding import Finding
    from gradcheck_lint.result import Result

NAME = "gradlint-baseline.json"
VERSION = 1
_LARGEST = 50_000_000  # bytes

Place = tuple[str, str, str]
"""Where a finding is known: its file, relative to the folder of the baseline, its code, and the text of its line."""


class Known(NamedTuple):
    """Findings that are alike: how many there are, how sure they were, and what they say."""

    times: int
    confidence: Confidence
    message: str


@dataclass(frozen=True, slots=True)
class Baseline:
    """What is known of a project, by place; `root` is what its paths are relative to."""

    root: Path
    known: Mapping[Place, Known]

    def __len__(self) -> int:
        return sum(known.times for known in self.known.values())

    def unknown(self, result: Result) -> Result:
        """The result without what is known: of equal findings the first ones are."""
        left = {place: known.times for place, known in self.known.items()}
        shown_, hidden = [], 0
        for finding, place in places(result, self.root):
            if finding.code not in UNCHECKED and left.get(place, 0):
                left[place] -= 1
                hidden += 1
            else:
                shown_.append(finding)
        return replace(result, findings=tuple(shown_), known=result.known + hidden)

    def beyond(self, other: Baseline) -> dict[Place, int]:
        """How many findings this has that the other has not."""
        more = {}
        for place, known in self.known.items():
            there = other.known.get(place)
            missing = known.times - (there.times if there is not None else 0)
            if missing > 0:
                more[place] = missing
        return more

    def without(self, gone: Mapping[Place, int]) -> Baseline:
        """What remains when some are taken out."""
        left = {place: known._replace(times=known.times - gone.get(place, 0)) for place, known in self.known.items()}
        return replace(self, known={place: known for place, known in left.items() if known.times})

    def seen_from(self, root: Path) -> Baseline:
        """The same with paths that are relative to another folder."""
        moved = {path: relative(os.path.join(self.root, path), root) for path, _, _ in self.known}
        return Baseline(root, {(moved[path], code, text): of for (path, code, text), of in self.known.items()})

    def with_all(self, now: Baseline) -> Baseline:
        """With those that are there now besides."""
        return replace(self, known={**self.known, **{place: now.known[place] for place in now.beyond(self)}})


def of(result: Result, root: Path) -> Baseline:
    """All findings of a result, but not those that say that a file was not checked."""
    counts: Counter[Place] = Counter()
    first: dict[Place, Finding] = {}
    for finding, place in places(result, root):
        if finding.code not in UNCHECKED:
            counts[place] += 1
            first.setdefault(place, finding)
    return Baseline(root, {p: Known(counts[p], f.confidence, f.message) for p, f in first.items()})


def places(result: Result, root: Path) -> Iterable[tuple[Finding, Place]]:
    """Each finding of a result with the place by which it is known."""
    from gradcheck_lint.report.fingerprint import with_lines

    for finding, text in with_lines(result.findings, result.sources):
        yield finding, (relative(finding.span.path, root), finding.code, text)


def relative(path: str, root: Path) -> str:
    """A path as a baseline holds it: from the folder of the baseline, with forward slashes.

    Links on the way to it lead nowhere else; a file that is a link keeps its name.
    """
    folder, name = os.path.split(os.path.abspath(path))
    real = os.path.join(_real(folder), name)
    try:
        return os.path.relpath(real, _real(str(root))).replace(os.sep, "/")
    except ValueError:  # another drive
        return real.replace(os.sep, "/")


_real = lru_cache(maxsize=4096)(os.path.realpath)


def read(path: Path) -> Baseline:
    """The baseline in a file; raises ConfigError where there is none."""
    try:
        data = read_regular(path, _LARGEST)
    except FileNotFoundError:
        raise ConfigError(f"the baseline {shown(path)} does not exist; `gradlint baseline write` creates it") from None
    except OSError as error:
        raise ConfigError(f"the baseline {shown(path)} cannot be read: {error.strerror}") from None
    try:
        document = json.loads(data)
        version = document["version"]
        known = dict(_entries(document)) if version == VERSION else {}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ConfigError(f"{shown(path)} is not a gradlint baseline; choose another file, or delete it") from None
    if version != VERSION:
        raise ConfigError(f"the baseline {shown(path)} was written by another version of gradlint; write it again")
    return Baseline(path.absolute().parent, known)


def _entries(document: Any) -> Iterable[tuple[Place, Known]]:
    for path, entries in document["findings"].items():
        for entry in entries:
            code, text, message, count = entry["code"], entry["text"], entry["message"], entry["count"]
            if not all(isinstance(word, str) for word in (code, text, message)) or type(count) is not int or count < 1:
                raise TypeError
            yield (path, code, text), Known(count, Confidence.parse(entry["confidence"]), message)


def write(baseline: Baseline, path: Path) -> None:
    """Write a baseline; raises ConfigError where that cannot be. Findings stand in order, each with what it says."""
    findings: dict[str, list[dict[str, object]]] = {}
    for (file, code, text), known in sorted(baseline.known.items()):
        entry = {"code": code, "text": text, "message": known.message, "confidence": str(known.confidence)}
        findings.setdefault(file, []).append({**entry, "count": known.times})
    document = json.dumps({"version": VERSION, "findings": findings}, indent=2) + "\n"
    try:
        write_report(str(path), document)
    except OSError as error:
        raise ConfigError(f"{shown(path)} cannot be written: {error.strerror}") from None
