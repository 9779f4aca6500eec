"""The list of all rules (`gradlint rules`)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from gradcheck_lint.finding import Severity
from gradcheck_lint.report.terminal import BOLD, RED, YELLOW, Paint, table, width, wrap

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gradcheck_lint.page import Page

WITNESSES = {"source": "linter", "run": "watcher"}  # who finds what a page says that the source or the run shows

_HEADS = ("code", "slug", "found by", "severity", "fix")
_STYLES = {Severity.ERROR: RED, Severity.WARNING: YELLOW}


def render(pages: Iterable[Page], *, columns: int = 120, colour: bool = False) -> str:
    """A table of the rules by code; what does not fit into `columns` goes on in the next line, aligned."""
    paint = Paint(colour)
    pages = sorted(pages, key=lambda page: page.code)
    rows = [tuple(paint(head, BOLD) for head in _HEADS)]
    for page in pages:
        severity = paint(page.severity.value, _STYLES[page.severity])
        rows.append(
            (paint(page.code, BOLD), page.slug, _witnesses(page), severity, page.fix.value if page.fix else "-")
        )
    rows_left = table(rows)
    indent = max(map(width, rows_left)) + 2
    summaries = [paint("summary", BOLD), *(page.summary for page in pages)]
    lines = []
    for left, summary in zip(rows_left, summaries, strict=True):
        padded = left + " " * (indent - width(left))
        words = wrap(summary, max(columns, indent + 30), first=padded, rest=" " * indent)
        lines.append(paint.prose(words))
    return "".join(f"{line}\n" for line in lines)


def render_json(pages: Iterable[Page]) -> str:
    """The same as a list of objects."""
    return json.dumps([described(page) for page in sorted(pages, key=lambda page: page.code)], indent=2) + "\n"


def described(page: Page) -> dict[str, object]:
    """What is known of a rule, for programs."""
    return {
        "code": page.code,
        "slug": page.slug,
        "severity": page.severity.value,
        "found_by": [key for key in WITNESSES if key in page.found_by],
        "fix": page.fix and page.fix.value,
        "since": page.since,
        "summary": page.summary,
    }


def _witnesses(page: Page) -> str:
    return ", ".join(name for key, name in WITNESSES.items() if key in page.found_by)
