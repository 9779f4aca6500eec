"""Pieces of source with what is wrong underlined.

14 |         loss.backward()
   |         ^^^^^^^^^^^^^^^ adds to the gradients left by the last iteration
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradcheck_lint.report.terminal import BLUE, cells, clean, width, wrap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradcheck_lint.finding import Span
    from gradcheck_lint.report.terminal import Paint

LIMIT = 120  # how many columns of a line of source are shown
WIDEST = 140  # how far the words about it may reach
_BEFORE = 24  # how many of them before what is underlined, in a line that is cut on the left
_DOTS = "..."


@dataclass(frozen=True, slots=True)
class Mark:
    """A span to be underlined, with what to say about it. The main one is the finding's own."""

    span: Span
    words: str
    main: bool = False


def lines_of(text: str) -> list[str]:
    """The lines of a source text as Python's tokenizer counts them: a form feed, say, ends none."""
    return re.split("\r\n|\r|\n", text)


def gutter(marks: Sequence[Mark]) -> int:
    """How many columns the numbers of the marked lines need."""
    return max(2, *(len(str(mark.span.line)) for mark in marks))


def snippet(
    lines: Sequence[str], marks: Sequence[Mark], room: int, style: str, paint: Paint, widest: int = WIDEST
) -> list[str]:
    """The marked lines of one file in order, each with its underlines; `style` is the colour of the main mark.

    `room` is the width of the gutter, and no line reaches beyond `widest` columns behind it. A single line between two
    marked ones is shown too, more are left out. Of a span of several lines the first is shown.
    """
    shown: list[str] = []
    limit = min(LIMIT, widest)
    bar = paint(" " * room + " |", BLUE)
    before = 0
    for number in sorted({mark.span.line for mark in marks}):
        if before and number == before + 2:
            shown.append(_numbered(before + 1, _Line(lines[before], limit).text, room, paint))
        elif before and number > before + 2:
            shown.append(paint(_DOTS, BLUE))
        here = sorted((mark for mark in marks if mark.span.line == number), key=lambda mark: mark.span)
        main = next((mark for mark in here if mark.main), here[0])
        line = _Line(lines[number - 1], limit, main.span.column)
        shown.append(_numbered(number, line.text, room, paint))
        for mark in sorted(here, key=lambda mark: not mark.main):
            indent, length = line.underline(mark.span)
            colour = style if mark.main else BLUE
            strokes, words = ("^" if mark.main else "-") * length, clean(mark.words)
            if words and indent + length + 1 + width(words) <= widest:
                strokes, words = f"{strokes} {words}", ""
            shown.append(f"{bar} {' ' * indent}{paint(strokes, colour)}")
            if words:  # there is more room for them below
                pieces = wrap(words, widest).split("\n")
                indent = max(0, min(indent, widest - max(map(width, pieces))))
                shown += [f"{bar} {' ' * indent}{paint(piece, colour)}" for piece in pieces]
        before = number
    return shown


class _Line:
    """A line of source, cut to `limit` columns such that the character at `column` is shown."""

    def __init__(self, line: str, limit: int, column: int = 1) -> None:
        self._line = line
        self._cells = cells(line)
        self._start, self._end = 0, len(line)
        if width("".join(self._cells)) > limit:
            self._cut(limit, min(column, len(line)) - 1)
        head, tail = _DOTS * (self._start > 0), _DOTS * (self._end < len(line))
        self.text = f"{head}{''.join(self._cells[self._start : self._end])}{tail}".rstrip()
        self._head = len(head)

    def _cut(self, limit: int, wanted: int) -> None:
        """Chooses `_start` and `_end` around the character at `wanted`, as many as there is room for."""
        widths = [width(cell) for cell in self._cells]
        room = limit - 2 * len(_DOTS)
        self._start = self._end = wanted
        if sum(widths[: wanted + 1]) <= limit - _BEFORE:
            self._start = 0
            room -= sum(widths[:wanted])
        else:
            room = self._extend_left(widths, room, _BEFORE)
        while self._end < len(widths) and widths[self._end] <= room:
            room -= widths[self._end]
            self._end += 1
        self._extend_left(widths, room, room)

    def _extend_left(self, widths: list[int], room: int, most: int) -> int:
        """Moves `_start` left by at most `most` columns; gives back how much of `room` is left."""
        while self._start > 0 and widths[self._start - 1] <= most:
            self._start -= 1
            most -= widths[self._start]
            room -= widths[self._start]
        return room

    def underline(self, span: Span) -> tuple[int, int]:
        """The columns before the underline of `span` and those under it, at least one."""
        start = span.column - 1
        end = span.end_column - 1 if span.end_line == span.line else len(self._line.rstrip())
        start, end = max(start, self._start), min(end, self._end)
        indent = width("".join(self._cells[self._start : start])) + self._head
        return indent, max(1, width("".join(self._cells[start:end])))


def _numbered(number: int, text: str, room: int, paint: Paint) -> str:
    return f"{paint(f'{number:>{room}} |', BLUE)} {text}".rstrip()
