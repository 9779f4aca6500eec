"""GitLab's code quality report, shown in merge requests."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from gradcheck_lint.finding import Severity
from gradcheck_lint.report import NO_SOURCES
from gradcheck_lint.report.fingerprint import fingerprints

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradcheck_lint.finding import Finding
    from gradcheck_lint.result import Result

_SEVERITIES = {Severity.ERROR: "major", Severity.WARNING: "minor"}


def render(result: Result, *, colour: bool = False, sources: Mapping[str, str] = NO_SOURCES) -> str:
    """A list with one entry a finding."""
    names = fingerprints(result.findings, sources)
    report = [_entry(finding, name) for finding, name in zip(result.findings, names, strict=True)]
    return json.dumps(report, indent=2) + "\n"


def _entry(finding: Finding, fingerprint: str) -> dict[str, object]:
    span = finding.span
    return {
        "check_name": finding.code,
        "description": f"{finding.code} ({finding.slug}): {finding.message}",
        "content": {"body": "\n\n".join(filter(None, (finding.label, finding.why, finding.help, finding.note)))},
        "categories": ["Bug Risk"],
        "severity": _SEVERITIES[finding.severity],
        "fingerprint": fingerprint,
        "location": {
            "path": span.path,
            "positions": {
                "begin": {"line": span.line, "column": span.column},
                "end": {"line": span.end_line, "column": span.end_column},
            },
        },
    }
