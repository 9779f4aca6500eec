"""JSON for other programs, in a shape that stays: docs/json-output.md and docs/findings.schema.json tell it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from gradcheck_lint.report import NO_SOURCES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradcheck_lint.finding import Finding, Fix
    from gradcheck_lint.result import Result

VERSION = 1  # raised when a reader of the old shape would go wrong, not when something is added


def render(result: Result, *, colour: bool = False, sources: Mapping[str, str] = NO_SOURCES) -> str:
    """One object; pure ASCII, so that no console or pipe can spoil it."""
    document = {
        "version": VERSION,
        "findings": [finding_object(finding) for finding in result.findings],
        "problems": [{"path": problem.path or None, "message": problem.message} for problem in result.problems],
        "cut": [{"path": path, "name": name or None} for path, name in result.cut],
        "summary": {
            "files": result.files,
            "training": result.training,
            "findings": len(result.findings),
            "known": result.known,
            "errors": result.errors,
            "skipped": {"notebooks": result.skipped.notebooks, "links": result.skipped.links},
            "seconds": round(result.seconds, 3),
        },
    }
    return json.dumps(document, indent=2) + "\n"


def finding_object(finding: Finding) -> dict[str, object]:
    """A finding as docs/findings.schema.json describes it."""
    span = finding.span
    return {
        "code": finding.code,
        "slug": finding.slug,
        "severity": finding.severity.value,
        "confidence": str(finding.confidence),
        "message": finding.message,
        "label": finding.label,
        "why": finding.why,
        "help": finding.help,
        "note": finding.note,
        "path": span.path,
        "line": span.line,
        "column": span.column,
        "end_line": span.end_line,
        "end_column": span.end_column,
        "related": [
            {"path": related.span.path, "line": related.span.line, "message": related.message}
            for related in finding.related
        ],
        "fix": finding.fix and _fix(finding.fix),
        "evidence": finding.evidence,
    }


def _fix(fix: Fix) -> dict[str, object]:
    return {
        "title": fix.title,
        "safety": fix.safety.value,
        "edits": [
            {
                "path": edit.span.path,
                "start": {"line": edit.span.line, "column": edit.span.column},
                "end": {"line": edit.span.end_line, "column": edit.span.end_column},
                "text": edit.text,
            }
            for edit in fix.edits
        ],
    }
