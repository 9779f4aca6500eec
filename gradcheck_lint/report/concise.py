"""One line a finding, for editors and `grep`: `path:line:column: GL101 [*] message`.

`[*]` means that `--fix` mends it, `[!]` that `--unsafe-fixes` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Safety
from gradcheck_lint.report import NO_SOURCES
from gradcheck_lint.report.terminal import BLUE, BOLD, CYAN, RED, Paint, clean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradcheck_lint.finding import Finding
    from gradcheck_lint.result import Problem, Result

_MARKERS = {Safety.SAFE: "[*] ", Safety.UNSAFE: "[!] "}


def render(result: Result, *, colour: bool = False, sources: Mapping[str, str] = NO_SOURCES) -> str:
    """The findings, then what went wrong inside gradlint; empty if there is neither."""
    paint = Paint(colour)
    colon = paint(":", BLUE)
    lines = []
    for finding in result.findings:
        span = finding.span
        place = f"{paint(clean(span.path), BOLD)}{colon}{span.line}{colon}{span.column}{colon}"
        lines.append(f"{place} {paint(finding.code, RED)} {paint(marker(finding), CYAN)}{clean(finding.message)}\n")
    return "".join([*lines, *(broken(problem, paint) for problem in result.problems)])


def broken(problem: Problem, paint: Paint) -> str:
    """The line of what went wrong inside gradlint."""
    where = f"{clean(problem.path)}: " if problem.path else ""
    return f"{where}{paint('problem:', RED)} {clean(problem.message)}\n"


def marker(finding: Finding) -> str:
    """The mark of a finding that can be fixed, with a space behind it."""
    return _MARKERS[finding.fix.safety] if finding.fix else ""
