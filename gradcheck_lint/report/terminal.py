"""What a terminal makes of characters: colours, how wide a character is, where a line breaks.

Text that comes from a linted file is never trusted: a control character in it becomes visible instead of taking
effect.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

TAB = 4  # the distance of tab stops

BOLD, DIM = "1", "2"
RED, GREEN, YELLOW, BLUE, CYAN = "1;31", "1;32", "1;33", "1;34", "36"

_ANSI = re.compile("\x1b\\[[0-9;]*m")
_CODE = re.compile(r"`[^`]+`")
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class Paint:
    """Colours text, or leaves it as it is; `paint(text, RED)`."""

    def __init__(self, on: bool) -> None:
        self.on = on

    def __call__(self, text: str, style: str) -> str:
        return f"\x1b[{style}m{text}\x1b[0m" if self.on and text and style else text

    def prose(self, text: str) -> str:
        """A sentence with its `code` coloured."""
        return _CODE.sub(lambda match: self(match[0], CYAN), text) if self.on else text


def visible(character: str) -> str:
    """The character as it may be sent to a terminal: a control character as its picture. A tab stays one."""
    code = ord(character)
    if code < 0x20 and character != "\t":
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    if 0x80 <= code < 0xA0 or 0xD800 <= code < 0xE000 or character in _BIDI or character in "\u2028\u2029":
        return "\ufffd"
    return character


def clean(text: str) -> str:
    """Text of somebody else's on one line, without control characters."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(" " if character in "\n\r\t" else visible(character) for character in text)


def width(text: str) -> int:
    """How many columns `text` takes; it holds no tab, and colours do not count."""
    if text.isascii():
        return len(_ANSI.sub("", text)) if "\x1b" in text else len(text)
    return sum(map(_width, _ANSI.sub("", text)))


def cells(line: str) -> list[str]:
    """What to print for each character of a line of source, tabs as spaces; `width` of each is right by itself."""
    if line.isascii() and line.isprintable():
        return list(line)
    shown: list[str] = []
    column = 0
    for character in line:
        cell = " " * (TAB - column % TAB) if character == "\t" else visible(character)
        column += width(cell)
        shown.append(cell)
    return shown


def wrap(text: str, columns: int, *, first: str = "", rest: str = "") -> str:
    """`text` on lines of at most `columns`, `first` before the first line and `rest` before the others.

    Breaks at spaces only, and not at those inside of `code` that fits a line. A word that is too long stays whole.
    """
    lines: list[str] = []
    line, empty = first, True
    for word in _words(text, columns - max(width(first), width(rest))):
        if not empty and width(line) + 1 + width(word) > columns:
            lines.append(line)
            line, empty = rest, True
        line += word if empty else f" {word}"
        empty = False
    return "\n".join([*lines, line])


def table(rows: Iterable[tuple[str, ...]], *, right: frozenset[int] = frozenset()) -> list[str]:
    """Rows with aligned columns, two spaces between them; the columns in `right` are flush right."""
    rows = list(rows)
    if not rows:
        return []
    widths = [max(map(width, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        padded = []
        for index, cell in enumerate(row):
            space = " " * (widths[index] - width(cell))
            padded.append(space + cell if index in right else cell + space)
        lines.append("  ".join(padded).rstrip())
    return lines


def _words(text: str, room: int) -> list[str]:
    """The words of `text`; a stretch of code with spaces in it is one word unless it needs more than `room`."""
    glued = _CODE.sub(lambda match: match[0].replace(" ", "\0") if width(match[0]) <= room else match[0], text)
    return [word.replace("\0", " ") for word in glued.split()]


def _width(character: str) -> int:
    if character == "\u200b" or unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0 if character != "\xad" else 1  # a soft hyphen is shown
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1
