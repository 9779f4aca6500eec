"""The findings of each file below its name, one line each, with the places lined up."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from gradcheck_lint.report import NO_SOURCES
from gradcheck_lint.report.concise import broken, marker
from gradcheck_lint.report.terminal import BLUE, BOLD, CYAN, RED, Paint, clean

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from gradcheck_lint.finding import Finding
    from gradcheck_lint.result import Result


def render(result: Result, *, colour: bool = False, sources: Mapping[str, str] = NO_SOURCES) -> str:
    """The files with findings, then what went wrong inside gradlint; empty if there is neither."""
    paint = Paint(colour)
    parts = [
        "".join(_file(path, list(findings), paint))
        for path, findings in groupby(result.findings, key=lambda finding: finding.span.path)
    ]
    problems = [broken(problem, paint) for problem in result.problems]
    return "\n".join([*parts, "".join(problems)] if problems else parts)


def _file(path: str, findings: Iterable[Finding], paint: Paint) -> Iterator[str]:
    yield f"{paint(clean(path), BOLD)}{paint(':', BLUE)}\n"
    places = [(f"{finding.span.line}:{finding.span.column}", finding) for finding in findings]
    room = max(len(place) for place, _ in places)
    for place, finding in places:
        told = f"{paint(finding.code, RED)} {paint(marker(finding), CYAN)}{clean(finding.message)}"
        yield f"  {place:<{room}}  {told}\n"
