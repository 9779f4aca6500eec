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
_LITERAL = re.compile(r"(?:\w|\\\W)+(?![?*+{])")
_EDGE = re.compile(r"[\^$]|\\[AZ]")  # what may hold in a part and not in the file


class Triggers:
    """Regular expressions over source text, of which one has to match."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._all = [_Trigger(part) for part in dict.fromkeys(p for pattern in patterns for p in alternatives(pattern))]

    def within(self, text: str) -> Callable[[str], bool]:
        """What tells whether a part of `text` matters."""
        searches = [trigger.search for trigger in self._all if trigger.may_match(text)]
        return lambda part: any(search(part) for search in searches)

    def search(self, text: str) -> bool:
        """Whether `text` matters."""
        return any(trigger.may_match(text) and trigger.search(text) for trigger in self._all)


class _Trigger:
    """One of the alternatives."""

    def __init__(self, pattern: str) -> None:
        loose = _loose(pattern)
        start = None if _WHOLE.search(pattern) else _LITERAL.match(loose)
        self._start = re.sub(r"\\(.)", r"\1", start[0]) if start else ""
        self._loose = re.compile(loose).search
        self.search = re.compile(pattern).search

    def may_match(self, text: str) -> bool:
        """Whether the pattern may match a part of `text`."""
        return self._start in text and self._loose(text) is not None


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
