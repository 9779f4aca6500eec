"""Making HTML and SVG out of text that is not trusted: what is not made here is escaped here."""

from __future__ import annotations

import re
from html import escape

from gradcheck_lint.report.terminal import clean, visible

_CODE = re.compile(r"`([^`]+)`")


def words(text: object) -> str:
    """Somebody else's text on one line."""
    return escape(clean(str(text)))


def source(line: str) -> str:
    """A piece of a line of source; tabs stay."""
    return escape("".join(map(visible, line)))


def prose(text: str) -> str:
    """A sentence with its `code` marked."""
    return _CODE.sub(r"<code>\1</code>", words(text))


def tag(name: str, *content: str, **attributes: object) -> str:
    """An element; `content` is markup already, attributes are escaped. `class_` gives class, `_` stands for `-`."""
    said = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(clean(str(value)))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{said}>{''.join(content)}</{name}>"


def number(value: float) -> str:
    """A coordinate, short."""
    return f"{value:.1f}".removesuffix(".0")


def middle_cut(text: str, most: int) -> str:
    """At most so many characters, with dots in the middle: both ends of a dotted name say something."""
    if len(text) <= most:
        return text
    left = (most - 1) // 2
    return f"{text[:left]}…{text[len(text) - (most - 1 - left) :]}"
