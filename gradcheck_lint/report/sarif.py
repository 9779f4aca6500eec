"""SARIF 2.1.0, which code scanning services and editors read: findings, related places, fixes, the rules' help."""

from __future__ import annotations

import json
import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from gradcheck_lint.report import NO_SOURCES, text
from gradcheck_lint.report.fingerprint import fingerprints

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradcheck_lint.finding import Finding, Fix, Span
    from gradcheck_lint.page import Page
    from gradcheck_lint.result import Result

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_ROOT = "%SRCROOT%"  # what relative paths are relative to; the reader knows where that is
_NO_PAGES: Mapping[str, Page] = MappingProxyType({})


def render(
    result: Result,
    *,
    colour: bool = False,
    sources: Mapping[str, str] = NO_SOURCES,
    pages: Mapping[str, Page] = _NO_PAGES,
) -> str:
    """One log with one run. `pages` are the rules' pages by code, from which the help comes."""
    from gradcheck_lint import __version__

    codes = {finding.code: finding for finding in sorted(result.findings, key=lambda finding: finding.code)}
    names = fingerprints(result.findings, sources)
    run = {
        "tool": {
            "driver": {
                "name": "gradlint",
                "version": __version__,
                "rules": [_rule(finding, pages.get(code)) for code, finding in codes.items()],
            }
        },
        "invocations": [
            {
                "executionSuccessful": not result.problems,
                "toolExecutionNotifications": [
                    *(_notification("error", problem.path, problem.message) for problem in result.problems),
                    *(_notification("warning", path, text.cut_off(path, name)) for path, name in result.cut),
                ],
            }
        ],
        "originalUriBaseIds": {_ROOT: {"description": {"text": "The folder in which gradlint was started."}}},
        "columnKind": "unicodeCodePoints",
        "newlineSequences": ["\r\n", "\n", "\r"],
        "results": [
            _result(finding, list(codes).index(finding.code), name)
            for finding, name in zip(result.findings, names, strict=True)
        ],
    }
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def _rule(finding: Finding, page: Page | None) -> dict[str, Any]:
    """What is told about a rule that found something; without its page little is known."""
    rule: dict[str, Any] = {
        "id": finding.code,
        "name": finding.slug,
        "defaultConfiguration": {"level": finding.severity.value},
        "properties": {"tags": ["pytorch", "training"], "problem.severity": finding.severity.value},
    }
    if page:
        what, why = ([" ".join(text.split()) for text in page.prose(name)] for name in ("What it is", "Why it hurts"))
        rule |= {
            "shortDescription": {"text": page.summary},
            "fullDescription": {"text": what[0]},
            "help": {"text": "\n\n".join([page.summary, *what, *why]), "markdown": _markdown(page)},
        }
    return rule


def _markdown(page: Page) -> str:
    """What a page says, and one of its examples: editors show it beside a finding, and logs carry it."""
    parts = [f"# {page.code}: {page.slug}", page.summary]
    shown = dict(zip(("Wrong", "Right"), page.pair, strict=True))
    for heading in page.sections:
        example = shown.get(heading)
        if example is not None:
            parts.append(f"## {heading}\n```python\n{example.code}```")
        elif heading not in shown:
            parts.append("\n\n".join([f"## {heading}", *page.prose(heading)]))
    return "\n\n".join(parts) + "\n"


def _result(finding: Finding, index: int, fingerprint: str) -> dict[str, Any]:
    words = [finding.message, finding.label, finding.why, finding.help, finding.note]
    result: dict[str, Any] = {
        "ruleId": finding.code,
        "ruleIndex": index,
        "level": finding.severity.value,
        "message": {"text": " ".join(f"{text[:1].upper()}{text[1:]}." for text in words if text)},
        "locations": [{"physicalLocation": _place(finding.span)}],
        "partialFingerprints": {"gradlint/v1": fingerprint},
        "properties": {"confidence": str(finding.confidence), "evidence": finding.evidence},
    }
    if finding.related:
        result["relatedLocations"] = [
            {"id": number, "physicalLocation": _place(related.span), "message": {"text": related.message}}
            for number, related in enumerate(finding.related)
        ]
    if finding.fix:
        result["fixes"] = [_fix(finding.fix)]
    return result


def _fix(fix: Fix) -> dict[str, Any]:
    paths = dict.fromkeys(edit.span.path for edit in fix.edits)
    return {
        "description": {"text": fix.title},
        "artifactChanges": [
            {
                "artifactLocation": _artifact(path),
                "replacements": [
                    {
                        "deletedRegion": _region(edit.span),
                        **({"insertedContent": {"text": edit.text}} if edit.text else {}),
                    }
                    for edit in fix.edits
                    if edit.span.path == path
                ],
            }
            for path in paths
        ],
        "properties": {"safety": fix.safety.value},
    }


def _notification(level: str, path: str, message: str) -> dict[str, Any]:
    place = [{"physicalLocation": {"artifactLocation": _artifact(path)}}] if path else []
    return {"level": level, "message": {"text": message}, "locations": place}


def _place(span: Span) -> dict[str, Any]:
    return {"artifactLocation": _artifact(span.path), "region": _region(span)}


def _region(span: Span) -> dict[str, int]:
    return {
        "startLine": span.line,
        "startColumn": span.column,
        "endLine": span.end_line,
        "endColumn": span.end_column,
    }


def _artifact(path: str) -> dict[str, str]:
    uri = quote(path, errors="surrogateescape")
    if path.startswith("/"):
        return {"uri": f"file://{uri}"}
    if re.match("[A-Za-z]:/", path):
        return {"uri": f"file:///{path[:2]}{quote(path[2:])}"}
    return {"uri": uri, "uriBaseId": _ROOT}
