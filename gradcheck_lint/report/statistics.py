"""How many findings there are of each rule (`--statistics`)."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

from gradcheck_lint.finding import Safety
from gradcheck_lint.report.terminal import BOLD, CYAN, RED, Paint, table

if TYPE_CHECKING:
    from gradcheck_lint.result import Result


def render(result: Result, *, colour: bool = False) -> str:
    """A table with the most frequent rule first; empty if nothing was found."""
    paint = Paint(colour)
    rows = [
        (paint(str(row["count"]), BOLD), paint(str(row["code"]), RED), str(row["slug"]), paint(_fixes(row), CYAN))
        for row in _rows(result)
    ]
    return "".join(f"{line}\n" for line in table(rows, right=frozenset({0})))


def render_json(result: Result) -> str:
    """The same as a list of objects."""
    return json.dumps(_rows(result), indent=2) + "\n"


def _rows(result: Result) -> list[dict[str, str | int]]:
    slugs = {finding.code: finding.slug for finding in result.findings}
    counts = Counter(finding.code for finding in result.findings)
    fixes = Counter((finding.code, finding.fix.safety) for finding in result.findings if finding.fix)
    return [
        {
            "code": code,
            "slug": slugs[code],
            "count": count,
            "safe_fixes": fixes[code, Safety.SAFE],
            "unsafe_fixes": fixes[code, Safety.UNSAFE],
        }
        for code, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    ]


def _fixes(row: dict[str, str | int]) -> str:
    flags = (("safe_fixes", "--fix"), ("unsafe_fixes", "--unsafe-fixes"))
    return ", ".join(f"{row[key]} with {flag}" for key, flag in flags if row[key])
