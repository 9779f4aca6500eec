"""`path:line: [GL101] message`, as pylint tells it when asked for a parseable output; many tools read that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.report import NO_SOURCES
from gradcheck_lint.report.terminal import clean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradcheck_lint.result import Result


def render(result: Result, *, colour: bool = False, sources: Mapping[str, str] = NO_SOURCES) -> str:
    """The findings, one line each; empty if there are none."""
    return "".join(
        f"{clean(finding.span.path)}:{finding.span.line}: [{finding.code}({finding.slug})] {clean(finding.message)}\n"
        for finding in result.findings
    )
