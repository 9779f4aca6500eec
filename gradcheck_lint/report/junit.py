"""JUnit's XML, which every build server reads: a suite for each file, a failed test for each finding."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from gradcheck_lint.report import NO_SOURCES
from gradcheck_lint.report.terminal import visible

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradcheck_lint.finding import Finding
    from gradcheck_lint.result import Result


def render(result: Result, *, colour: bool = False, sources: Mapping[str, str] = NO_SOURCES) -> str:
    """One document; a run that found nothing has one test, which passed. Pure ASCII."""
    failed = len(result.findings) + len(result.problems)
    root = ElementTree.Element(
        "testsuites", name="gradlint", tests=str(failed or 1), failures=str(len(result.findings))
    )
    root.set("errors", str(len(result.problems)))
    for path, findings in groupby(result.findings, key=lambda finding: finding.span.path):
        _suite(root, path, list(findings))
    if result.problems:
        count = str(len(result.problems))
        suite = ElementTree.SubElement(root, "testsuite", name="gradlint", tests=count, failures="0", errors=count)
        for problem in result.problems:
            case = ElementTree.SubElement(suite, "testcase", name="checked", classname=_shown(problem.path))
            ElementTree.SubElement(case, "error", message=_shown(problem.message))
    if not failed:
        suite = ElementTree.SubElement(root, "testsuite", name="gradlint", tests="1", failures="0", errors="0")
        ElementTree.SubElement(suite, "testcase", name="no mistakes found", classname="gradlint")
    ElementTree.indent(root)
    document: bytes = ElementTree.tostring(root, encoding="us-ascii")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{document.decode("ascii")}\n'


def _suite(root: ElementTree.Element, path: str, findings: list[Finding]) -> None:
    count = str(len(findings))
    suite = ElementTree.SubElement(root, "testsuite", name=_shown(path), tests=count, failures=count, errors="0")
    for finding in findings:
        span = finding.span
        name = f"{finding.code} ({finding.slug})"
        case = ElementTree.SubElement(suite, "testcase", name=name, classname=_shown(path), file=_shown(path))
        case.set("line", str(span.line))
        failure = ElementTree.SubElement(case, "failure", message=_shown(finding.message), type=str(finding.severity))
        words = [f"{span.path}:{span.line}:{span.column}", finding.label, finding.why, finding.help]
        failure.text = "\n".join(_shown(word) for word in words if word)


def _shown(text: str) -> str:
    """Without what XML cannot hold."""
    return "".join(map(visible, text))
