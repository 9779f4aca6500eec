"""Names that are filled and never read. Every mention counts as a read, also one in a message or a comment."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gradcheck_lint.source.effort import spend
from gradcheck_lint.source.place import Place

if TYPE_CHECKING:
    from gradcheck_lint.source.events import Event, Timeline

_ANYTHING = re.compile(r"\b(locals|globals|vars|eval|exec)\(|\bimport \*")


def never_read(timeline: Timeline, event: Event, name: str) -> bool:
    """Whether a local name is only assigned once, at an event, and else at most put something into."""
    outline = timeline.home.outline
    if event.place.chunk.path != timeline.home.path:
        return False
    if event.function is None:
        lines = outline.lines
    else:
        span = Place(event.place.chunk, event.function).span
        lines = outline.lines[span.line - 1 : span.end_line]
    text = "".join(lines)
    spend(1 + len(text) // 500)  # for each of the three times that it is searched
    if _ANYTHING.search(text):
        return False
    word = re.escape(name)
    mentions = len(re.findall(rf"\b{word}\b", text))
    filled = len(re.findall(rf"^[ \t]*{word}(?:\.(?:append|extend|add|insert)\(|[ \t]*\+=)", text, re.MULTILINE))
    return mentions - filled == 1
