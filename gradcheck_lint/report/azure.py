"""Logging commands, which Azure Pipelines shows with the build and beside the changed lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.report import NO_SOURCES
from gradcheck_lint.report.terminal import visible

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradcheck_lint.result import Result


def render(result: Result, *, colour: bool = False, sources: Mapping[str, str] = NO_SOURCES) -> str:
    """One command a finding, and one for each thing that went wrong inside gradlint."""
    lines = []
    for finding in result.findings:
        span = finding.span
        place = {"sourcepath": span.path, "linenumber": str(span.line), "columnnumber": str(span.column)}
        lines.append(_command(str(finding.severity), place | {"code": finding.code}, finding.message))
    for problem in result.problems:
        lines.append(_command("error", {"sourcepath": problem.path} if problem.path else {}, problem.message))
    return "".join(lines)


def _command(kind: str, properties: Mapping[str, str], message: str) -> str:
    told = "".join(f"{name}={_property(value)};" for name, value in {"type": kind, **properties}.items())
    return f"##vso[task.logissue {told}]{_data(message)}\n"


def _data(text: str) -> str:
    shown = "".join(visible(character) if character not in "\r\n" else character for character in text)
    return shown.replace("%", "%AZP25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(";", "%3B").replace("]", "%5D")
