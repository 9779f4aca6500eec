"""Workflow commands, which GitHub Actions turns into annotations of the changed lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.report import NO_SOURCES
from gradcheck_lint.report.terminal import visible
from gradcheck_lint.report.text import cut_off

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradcheck_lint.finding import Finding
    from gradcheck_lint.result import Result


def render(result: Result, *, colour: bool = False, sources: Mapping[str, str] = NO_SOURCES) -> str:
    """One command a finding, and one for each thing that went wrong inside gradlint or was too much."""
    lines = [_command(finding) for finding in result.findings]
    for problem in result.problems:
        file = f"file={_property(problem.path)}," if problem.path else ""
        lines.append(f"::error {file}title=gradlint::{_data(problem.message)}\n")
    for path, name in result.cut:
        lines.append(f"::warning file={_property(path)},title=gradlint::{_data(cut_off(path, name))}\n")
    return "".join(lines)


def _command(finding: Finding) -> str:
    span = finding.span
    properties = {"file": span.path, "line": span.line, "endLine": span.end_line}
    if span.line == span.end_line:  # GitHub takes columns for a place on one line only
        properties |= {"col": span.column, "endColumn": span.end_column}
    properties["title"] = f"{finding.code} ({finding.slug})"
    told = ",".join(f"{name}={_property(str(value))}" for name, value in properties.items())
    words = [finding.message]
    words += [f"{name}: {text}" for name, text in (("why", finding.why), ("help", finding.help)) if text]
    return f"::{finding.severity} {told}::{_data(chr(10).join(words))}\n"


def _data(text: str) -> str:
    shown = "".join(character if character in "\r\n\t" else visible(character) for character in text)
    return shown.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
