"""Which text matters, found fast.

`re` finds the fixed beginning of a pattern nearly at the speed of memory, but not inside an alternation, nor behind a
`\\b`. So the alternatives of all triggers are searched one by one, first loosely in the whole of a file: few files
hold more than a few of them, and only those are searched in its parts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

_TOKEN = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|[()|]|[^\\\[()|]+", re.DOTALL)
_WHOLE = re.compile(r"\(\?[aiLmsux]|\\[1-9]|\(\?P=|\(\?\(")  # flags and references, which reach over a whole pattern
_EDGE = re.compile(r"[\^$]|\\[AZ]")  # what may hold in a part and not in the file


class Triggers:
    """Regular expressions over source text, of which one has to match."""

    def __init__(self, patterns: Iterable[str]) -> None:
        each = dict.fromkeys(part for pattern in patterns for part in alternatives(pattern))
        self._searches = [(re.compile(_loose(part)).search, re.compile(part).search) for part in each]

    def within(self, text: str) -> Callable[[str], bool]:
        """What tells whether a part of `text` matters."""
        searches = [search for loose, search in self._searches if loose(text)]
        return lambda part: any(search(part) for search in searches)

    def search(self, text: str) -> bool:
        """Whether `text` matters."""
        return any(loose(text) and search(text) for loose, search in self._searches)


def alternatives(pattern: str) -> list[str]:
    """The parts of a regular expression between those `|` that are in no bracket."""
    if _WHOLE.search(pattern):
        return [pattern]
    parts, depth = [""], 0
    for token in _TOKEN.findall(pattern):
        if token == "|" and not depth:
            parts.append("")
        else:
            depth += (token == "(") - (token == ")")
            parts[-1] += token
    return parts


def _loose(pattern: str) -> str:
    """A pattern that is found faster, and wherever `pattern` is."""
    if any(_EDGE.match(token) or (token[0] not in "\\[" and _EDGE.search(token)) for token in _TOKEN.findall(pattern)):
        return ""
    return pattern.removeprefix(r"\b")
