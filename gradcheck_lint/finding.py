"""What every part of gradlint speaks about: a finding, where it is, and how it can be mended.

Plain frozen data, so that findings can be compared, sorted, sent between processes and saved. Imports nothing
of ours: the laws (`laws/`), the rules and the renderers all build on this module.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Severity(str, enum.Enum):
    """How bad the mistake is where it is real."""

    ERROR = "error"  # the program fails, or trains the wrong thing
    WARNING = "warning"  # the program trains, but worse than its author means it to

    def __str__(self) -> str:
        return self.value


class Confidence(enum.IntEnum):
    """How sure the analysis is; ordered, so that `finding.confidence >= minimum` works."""

    LOW = 1  # something on the way could not be followed
    MEDIUM = 2  # wrong unless an unseen piece of code makes it right
    HIGH = 3  # wrong on every path

    def __str__(self) -> str:
        return self.name.lower()

    @classmethod
    def parse(cls, text: str) -> Confidence:
        """The level called `text` (`low`, `medium`, `high`); raises KeyError for another word."""
        return cls[text.upper()]


class Safety(str, enum.Enum):
    """Whether a fix may be applied without a person looking (`--fix`) or not (`--unsafe-fixes`)."""

    SAFE = "safe"
    UNSAFE = "unsafe"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A stretch of a file. Lines and columns start at 1 and count characters; the end is exclusive."""

    path: str
    line: int
    column: int
    end_line: int
    end_column: int


@dataclass(frozen=True, slots=True)
class Related:
    """Another place that belongs to the finding: where the optimizer was built, the step that came before."""

    message: str
    span: Span


@dataclass(frozen=True, slots=True, order=True)
class Edit:
    """Replace the text of `span` by `text`; an empty span inserts, an empty text deletes."""

    span: Span
    text: str


@dataclass(frozen=True, slots=True)
class Fix:
    """Edits that together remove the finding. All of them are applied, or none."""

    title: str  # imperative: "call `optimizer.zero_grad()` before `loss.backward()`"
    safety: Safety
    edits: tuple[Edit, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """One mistake at one place, told in words.

    `message` is the headline (the defect as a fact, lower case, no full stop), `label` says what the marked code
    does, `why` names one consequence, `help` is an imperative with the user's own names, and `note` (may be
    empty) says when the code is legitimate. `evidence` is "source" for the linter and "run" for the watcher,
    which also gives the `step` of the run (counted from 1).
    """

    code: str
    slug: str
    severity: Severity
    confidence: Confidence
    message: str
    span: Span
    label: str = ""
    why: str = ""
    help: str = ""
    note: str = ""
    related: tuple[Related, ...] = ()
    fix: Fix | None = None
    evidence: str = "source"
    step: int | None = None

    @property
    def order(self) -> tuple[str, int, int, str, str]:
        """The order in which findings are shown: by place, then by code."""
        return (self.span.path, self.span.line, self.span.column, self.code, self.message)
