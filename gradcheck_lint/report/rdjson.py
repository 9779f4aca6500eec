"""Reviewdog's diagnostic format (rdjson), with the fixes as suggestions for a review."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from gradcheck_lint.finding import Severity
from gradcheck_lint.report import NO_SOURCES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradcheck_lint.finding import Finding, Span
    from gradcheck_lint.result import Result

_SEVERITIES = {Severity.ERROR: "ERROR", Severity.WARNING: "WARNING"}


def render(result: Result, *, colour: bool = False, sources: Mapping[str, str] = NO_SOURCES) -> str:
    """One object with a diagnostic for each finding; pure ASCII."""
    document = {
        "source": {"name": "gradlint"},
        "severity": "WARNING",
        "diagnostics": [_diagnostic(finding) for finding in result.findings],
    }
    return json.dumps(document, indent=2) + "\n"


def _diagnostic(finding: Finding) -> dict[str, object]:
    """A finding; a fix of several edits is no suggestion, as a review would take each by itself."""
    edits = finding.fix.edits if finding.fix is not None else ()
    told: dict[str, object] = {
        "message": "\n".join(filter(None, (finding.message, finding.why, finding.help))),
        "location": {"path": finding.span.path, "range": _range(finding.span)},
        "severity": _SEVERITIES[finding.severity],
        "code": {"value": finding.code},
    }
    if len(edits) == 1 and edits[0].span.path == finding.span.path:
        told["suggestions"] = [{"range": _range(edits[0].span), "text": edits[0].text}]
    return told


def _range(span: Span) -> dict[str, object]:
    """Lines and columns from 1, and the end exclusive, as ours are."""
    return {
        "start": {"line": span.line, "column": span.column},
        "end": {"line": span.end_line, "column": span.end_column},
    }
