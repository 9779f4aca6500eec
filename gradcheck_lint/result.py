"""What one run of the linter gives back: findings, what went wrong inside gradlint, and a few numbers.

The renderers (`report/`) and the command read it; nothing in it can be printed by itself.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from traceback import extract_tb, format_exception
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gradcheck_lint.finding import Finding
    from gradcheck_lint.source.file import SourceFile

UNCHECKED = frozenset({"GL001", "GL003"})
"""The codes that say that a file was not checked: it does not parse, or it could not be read."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that went wrong inside gradlint, so that a file was not, or not fully, checked."""

    path: str  # the file that was being linted, as shown; empty where it was none in particular
    message: str  # one line
    traceback: str = ""  # where there is one, it is a mistake of ours

    @classmethod
    def of(cls, path: str, error: BaseException) -> Problem:
        """What an exception comes down to that was raised where a file was looked at."""
        if isinstance(error, MemoryError):
            return cls(path, "there is not enough memory to check it")
        frames = extract_tb(error.__traceback__)
        where = f" ({os.path.basename(frames[-1].filename)}:{frames[-1].lineno})" if frames else ""
        said = str(error).partition("\n")[0]
        return cls(path, f"{type(error).__name__}{': ' if said else ''}{said}{where}", "".join(format_exception(error)))


class AnalysisError(Exception):
    """Raised by the engine when the run is over and rules broke on some files.

    It carries what was found all the same, so that one broken rule costs its own findings and no others.
    """

    def __init__(self, findings: Sequence[Finding], problems: Sequence[Problem]) -> None:
        super().__init__("; ".join(problem.message for problem in problems))
        self.findings = tuple(findings)
        self.problems = tuple(problems)


@dataclass(slots=True)
class Extent:
    """How much was looked at. It is filled while the analysis goes on, island by island."""

    cut: list[tuple[str, str]] = field(default_factory=list)
    """What was followed or judged in part only: path, and name of the function or class, "" for a module's own code."""
    training: set[str] = field(default_factory=set)
    """The paths of the files in which training code was seen: an optimizer, a backward."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """What lies in the folders that were linted, and is not looked at."""

    notebooks: int = 0
    links: int = 0  # those that lead nowhere, or out of what was named


NOTHING = Skipped()


@dataclass(frozen=True, slots=True)
class Result:
    """One run: the findings that are to be shown, sorted by `Finding.order`."""

    findings: tuple[Finding, ...]
    files: int  # how many files were linted, those that could not be read included
    seconds: float
    problems: tuple[Problem, ...] = ()
    cut: tuple[tuple[str, str], ...] = ()  # sorted; see Extent
    training: int = 0  # in how many files training code was seen
    skipped: Skipped = NOTHING
    fixed: int = 0  # how many findings were mended by `--fix` before these remained
    known: int = 0  # how many are not among them, as they were known before: see `baseline`
    read: Mapping[str, SourceFile] = field(default_factory=dict, compare=False, repr=False)
    """The files that the findings point into, by the path that a Span gives, as they were when they were linted."""

    @property
    def errors(self) -> int:
        """How many times a file, or a part of it, was not checked."""
        return sum(finding.code in UNCHECKED for finding in self.findings) + len(self.problems)

    @property
    def sources(self) -> dict[str, str]:
        """The text of each file that a finding points into; a file that is no text is left out."""
        from gradcheck_lint.source.file import DecodeError, decode

        texts: dict[str, str] = {}
        for path, file in self.read.items():
            try:
                texts[path] = decode(file.data)
            except DecodeError:
                continue
        return texts
