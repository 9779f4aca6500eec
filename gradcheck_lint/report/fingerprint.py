"""A name for a finding that stays the same while code around it moves.

Services that compare two runs (GitLab's merge requests, GitHub's code scanning) tell old findings from new ones by
it. It is made of the path, the code and the line's own text, not of the line's number; equal ones are numbered.
"""

from __future__ import annotations

from collections import Counter
from hashlib import sha256
from typing import TYPE_CHECKING

from gradcheck_lint.report.snippet import lines_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from gradcheck_lint.finding import Finding


def with_lines(findings: Iterable[Finding], sources: Mapping[str, str]) -> Iterator[tuple[Finding, str]]:
    """Each finding with the text of its line, spaces made equal; with its message where the line is not known."""
    lines = {path: lines_of(text) for path, text in sources.items()}
    for finding in findings:
        own, number = lines.get(finding.span.path, []), finding.span.line
        yield finding, " ".join(own[number - 1].split()) if 1 <= number <= len(own) else finding.message


def fingerprints(findings: Iterable[Finding], sources: Mapping[str, str]) -> list[str]:
    """The fingerprint of each finding, in their order."""
    seen: Counter[tuple[str, ...]] = Counter()
    made = []
    for finding, text in with_lines(findings, sources):
        key = (finding.span.path, finding.code, text)
        made.append(sha256("\0".join((*key, str(seen[key]))).encode("utf-8", "surrogatepass")).hexdigest())
        seen[key] += 1
    return made
