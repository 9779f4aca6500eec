"""The page of a rule for a terminal (`gradlint explain`): a screen that says what matters, or all of it.

Knows as much Markdown as pages use: headings, paragraphs, lists, tables, fenced code, `code`, **bold**, *emphasis*
and links. Everything else is shown as it is written.
"""

from __future__ import annotations

import json
import re
from difflib import SequenceMatcher, ndiff
from typing import TYPE_CHECKING

from gradcheck_lint.finding import Severity
from gradcheck_lint.page import until_closed
from gradcheck_lint.report.rules_table import WITNESSES, described
from gradcheck_lint.report.terminal import BOLD, DIM, GREEN, RED, YELLOW, Paint, clean, table, width, wrap

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gradcheck_lint.page import Example, Page

_ALIKE = 0.5  # from this share of equal lines on two programs are shown as a diff
_INDENT = "  "
_CODE_INDENT = "      "
_FENCE = re.compile(r"(`{3,})(.*)")
_ITEM = re.compile(r"( *)([-*+]|\d+[.)]) +(.*)")
_MARKER = re.compile(r"\s*# <- (\S+)$")
_SPAN = re.compile(r"(`[^`]+`)|\*\*(.+?)\*\*|\*(\S(?:.*?\S)?)\*|\[([^\]]+)\]\((\S+?)\)")

_SEVERITIES = {Severity.ERROR: RED, Severity.WARNING: YELLOW}
_CAPTIONS = {
    "wrong": ("wrong", RED),
    "fixed": ("what the fix makes of it", GREEN),
    "harm": ("what this shows", BOLD),
    "right": ("right", GREEN),
    "quiet": ("not reported", GREEN),
}


def render(page: Page, *, columns: int = 80, colour: bool = False) -> str:
    """The whole page on lines of at most `columns`, code excepted."""
    paint = Paint(colour)
    lines = _head(page, columns, paint)
    for heading, markdown in page.sections.items():
        lines += ["", paint(heading, BOLD)]
        for number, block in enumerate(_blocks(markdown, columns, paint)):
            lines += [""] * (number > 0) + block
    return "\n".join(lines) + "\n"


def render_short(page: Page, *, columns: int = 80, colour: bool = False) -> str:
    """The first words of each section, and one example: what the mistake looks like, and what becomes of it."""
    paint = Paint(colour)
    lines = _head(page, columns, paint)
    for heading in ("What it is", "Why it hurts"):
        lines += ["", paint(heading, BOLD), *_first(page, heading, columns, paint)]
    wrong, right = page.pair
    if wrong is not None:
        lines += ["", paint("Example", BOLD), *_compared(wrong, right, paint)]
    for heading in ("When to ignore it", "Fix safety"):
        words = _first(page, heading, columns, paint)
        lines += ["", paint(heading, BOLD), *words] if words else []
    count = len(page.examples)
    if count > 2:
        lines += ["", paint(f"All {count} examples: gradlint explain {page.code} --all", DIM)]
    return "\n".join(lines) + "\n"


def render_json(pages: Iterable[Page]) -> str:
    """A list with an object for each page; the sections are Markdown without their examples."""
    return json.dumps([_object(page) for page in pages], indent=2) + "\n"


def _object(page: Page) -> dict[str, object]:
    wrong, right = page.pair
    return {
        **described(page),
        "sections": {
            heading: "\n\n".join(page.prose(heading)) for heading in page.sections if heading not in ("Wrong", "Right")
        },
        "wrong": wrong and wrong.code,
        "right": right and right.code,
    }


def _first(page: Page, heading: str, columns: int, paint: Paint) -> list[str]:
    """The first paragraph of a section that introduces no example."""
    paragraphs = page.prose(heading)
    return _block(paragraphs[0].split("\n"), columns, paint) if paragraphs else []


def _compared(wrong: Example, right: Example | None, paint: Paint) -> list[str]:
    """A wrong program and the right one as a diff, or one after the other where they have little in common."""
    before = wrong.code.splitlines()
    after = right.code.splitlines() if right is not None else []
    if right is None or SequenceMatcher(None, before, after).ratio() < _ALIKE:
        shown = [_INDENT + paint("wrong", RED) + ":", *(f"{_CODE_INDENT}{line}".rstrip() for line in before)]
        if right is not None:
            shown += ["", _INDENT + paint("right", GREEN) + ":"]
            shown += [f"{_CODE_INDENT}{line}".rstrip() for line in after]
        return shown
    shown = []
    for line in ndiff(before, after):
        sign = line[0]
        if sign != "?":
            text = f"{_INDENT}{line}".rstrip()
            shown.append(paint(text, {"-": RED, "+": GREEN}[sign]) if sign in "-+" else text)
    return shown


def _head(page: Page, columns: int, paint: Paint) -> list[str]:
    """The name of the rule, its facts and what it says in a line."""
    witnesses = " and ".join(name for key, name in WITNESSES.items() if key in page.found_by)
    facts = (
        paint(page.severity.value, _SEVERITIES[page.severity]),
        f"found by the {witnesses}",
        f"{page.fix} fix" if page.fix else "no fix",
        f"since {page.since}",
    )
    lines = [paint(f"{page.code} {page.slug}", BOLD), _INDENT + ", ".join(facts), ""]
    return lines + _prose(page.summary, columns, paint)


def _blocks(markdown: str, columns: int, paint: Paint) -> Iterator[list[str]]:
    """The paragraphs, lists, tables and examples of a section, each as its lines."""
    lines = iter(markdown.split("\n"))
    block: list[str] = []
    for line in lines:
        fence = _FENCE.fullmatch(line.rstrip())
        if (fence or not line.strip()) and block:
            yield _block(block, columns, paint)
            block = []
        if fence:
            yield _example(fence[2].split(), until_closed(lines, fence[1]), paint)
        elif line.strip():
            block.append(line)
    if block:
        yield _block(block, columns, paint)


def _block(lines: list[str], columns: int, paint: Paint) -> list[str]:
    if lines[0].startswith("|"):
        cells = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]
        rows = [tuple(_inline(cell, paint) for cell in row) for row in cells if set("".join(row)) - set("-:")]
        return [_INDENT + paint.prose(line) for line in table(rows)]
    if lines[0].startswith("#"):
        first = _INDENT + paint(lines[0].lstrip("# "), BOLD)
        return [first, *(_block(lines[1:], columns, paint) if lines[1:] else [])]
    shown: list[str] = []
    indent, part = _INDENT, [] if _ITEM.fullmatch(lines[0]) else [lines[0].strip()]
    first = indent
    for line in lines[len(part) :]:
        item = _ITEM.fullmatch(line)
        if not item:
            part.append(line.strip())
            continue
        if part:
            shown += _prose(" ".join(part), columns, paint, first, indent)
        bullet = "-" if item[2] in "-*+" else item[2]
        first = f"{_INDENT}{item[1]}{bullet} "
        indent, part = " " * len(first), [item[3]]
    return shown + _prose(" ".join(part), columns, paint, first, indent)


def _prose(text: str, columns: int, paint: Paint, first: str = _INDENT, rest: str = _INDENT) -> list[str]:
    return paint.prose(wrap(_inline(text, paint), columns, first=first, rest=rest)).split("\n")


def _inline(text: str, paint: Paint) -> str:
    """Text with its Markdown made bold or plain; `code` keeps its marks."""

    def shown(match: re.Match[str]) -> str:
        code, strong, emphasis, link, address = match.groups()
        if code:
            return code
        return f"{link} ({address})" if link else paint(strong or emphasis, BOLD)

    return _SPAN.sub(shown, clean(text))


def _example(info: list[str], code: list[str], paint: Paint) -> list[str]:
    """A fenced program with a caption that says what it is; a marked line is underlined."""
    lines = []
    if info[:1] == ["python"] and info[1:2] and info[1] in _CAPTIONS:
        caption, style = _CAPTIONS[info[1]]
        details = [f"raises {word.removeprefix('raises=')}" for word in info if word.startswith("raises=")]
        details += ["medium confidence"] * ("medium" in info)
        told = f" ({', '.join(details)})" if details else ""
        lines.append(_INDENT + paint(caption, style) + paint(told, DIM) + ":")
    for line in code:
        marker = _MARKER.search(line)
        text = line[: marker.start()] if marker else line
        lines.append(f"{_CODE_INDENT}{text}".rstrip())
        if marker:
            bare = text.lstrip()
            carets = paint(f"{'^' * width(bare)} {marker[1]}", RED)
            lines.append(_CODE_INDENT + " " * (len(text) - len(bare)) + carets)
    return lines
