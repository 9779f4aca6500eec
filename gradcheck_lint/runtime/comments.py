"""Comments that silence a finding of a run: the same words as for the linter, on the line that is told of."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gradcheck_lint.finding import Span
from gradcheck_lint.runtime import sites

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradcheck_lint.finding import Finding
    from gradcheck_lint.rule import Rule


def silenced(finding: Finding, rules: Sequence[Rule]) -> bool:
    """Whether a comment asks for silence: as for the linter in a file of Python, elsewhere on the finding's lines."""
    text = sites.whole(finding.span.path)
    if finding.span.path.endswith((".py", ".pyw")):
        return _says(text, finding, rules)
    lines = text.splitlines()
    if any("gradlint: skip-file" in line for line in lines) and _says(text, finding, rules):
        return True
    for number in {finding.span.line, finding.span.end_line}:
        line = lines[number - 1] if 0 < number <= len(lines) else ""
        comment = line[line.find("#") :] if "#" in line else ""
        if comment and _says(f"0  {comment}", replace(finding, span=Span("", 1, 1, 1, 2)), rules):
            return True
    return False


def _says(text: str, finding: Finding, rules: Sequence[Rule]) -> bool:
    from gradcheck_lint.source.suppress import suppress

    return not suppress("", text.encode("utf-8", "replace"), text, [finding], rules, None)
