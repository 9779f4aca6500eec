"""Reviewdog's diagnostic format (rdjson), with the fixes as suggestions for a review."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from gradcheck_lint.finding import Severity
from gradcheck_lint.report import NO_SOURCES
from gradcheck_lint.report.snippet import lines_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gradcheck_lint.finding import Finding, Span
    from gradcheck_lint.result import Result

_SEVERITIES = {Severity.ERROR: "ERROR", Severity.WARNING: "WARNING"}


def render(result: Result, *, colour: bool = False, sources: Mapping[str, str] = NO_SOURCES) -> str:
    """One object with a diagnostic for each finding; pure ASCII."""
    texts = {path: lines_of(text) for path, text in sources.items()}
    document = {
        "source": {"name": "gradlint"},
        "severity": "WARNING",
        "diagnostics": [_diagnostic(finding, texts) for finding in result.findings],
    }
    return json.dumps(document, indent=2) + "\n"


def _diagnostic(finding: Finding, texts: Mapping[str, Sequence[str]]) -> dict[str, object]:
    """A finding; a fix of several edits is no suggestion, as a review would take each by itself."""
    edits = finding.fix.edits if finding.fix is not None else ()
    told: dict[str, object] = {
        "message": "\n".join(filter(None, (finding.message, finding.why, finding.help))),
        "location": {"path": finding.span.path, "range": _range(finding.span, texts)},
        "severity": _SEVERITIES[finding.severity],
        "code": {"value": finding.code},
    }
    if len(edits) == 1 and edits[0].span.path == finding.span.path:
        told["suggestions"] = [{"range": _range(edits[0].span, texts), "text": edits[0].text}]
    return told


def _range(span: Span, texts: Mapping[str, Sequence[str]]) -> dict[str, object]:
    """Lines and columns from 1, and the end exclusive, as ours are; but columns count bytes of UTF-8."""
    lines = texts.get(span.path, ())

    def position(line: int, column: int) -> dict[str, int]:
        if 1 <= line <= len(lines):
            column = len(lines[line - 1][: column - 1].encode("utf-8", "surrogatepass")) + 1
        return {"line": line, "column": column}

    return {"start": position(span.line, span.column), "end": position(span.end_line, span.end_column)}
