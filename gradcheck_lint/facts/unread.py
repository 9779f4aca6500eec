"""Who reads a name otherwise than further down in the same text.

`never_read` is about names that are filled and never read: every mention counts as a read there, also one in a message
or a comment.
"""

from __future__ import annotations

import re
import symtable
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from gradcheck_lint.source.effort import spend
from gradcheck_lint.source.place import Place

if TYPE_CHECKING:
    from gradcheck_lint.source.events import Event
    from gradcheck_lint.source.project import Module
    from gradcheck_lint.source.timeline import Timeline

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


_BY_NAME = re.compile(
    r"(?<![\w.])(?:(?:eval|exec|locals|globals)\(|(?:vars|dir)\(\))|\bf_(?:locals|globals)\b|\bsys\.modules\b"
)
"""`vars(args)` asks an object, and knows none of the names around it."""


def read_by_name(timeline: Timeline, event: Event) -> bool:
    """Whether code may get at the names of where an event happens otherwise than by speaking of them.

    `eval`, `locals()` and their like see the names of the function that they stand in; those of a module are seen by
    the like in any of its functions. Whoever is given `globals()` may write them as well.
    """
    text = _text(timeline, event)
    spend(1 + len(text) // 500)
    return _BY_NAME.search(text) is not None or any(
        "f_locals" in m.text for m in timeline.home.project.modules.values() if m is not None
    )


def read_inside(timeline: Timeline, event: Event, name: str) -> bool:
    """Whether a function reads a name of where an event happens: a closure, or a function of the module's globals.

    A function that is defined above may be called below, and another module may import the name.
    """
    module = timeline.home
    if event.place.chunk.path != module.path:
        return True
    spend(1 + len(module.text) // 100)
    try:
        table = symtable.symtable(module.outline.text, module.path, "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return True
    here = table if event.function is None else _table_of(table, event)
    if here is None:
        return True
    if here is table or _known(here, name, symtable.Symbol.is_global):
        return any(_reads(t, name, symtable.Symbol.is_global) for t in _below(table)) or _imported(module, name)
    return any(_reads(t, name, symtable.Symbol.is_free) for t in (here, *_below(here)))


def _text(timeline: Timeline, event: Event) -> str:
    """The text of the function that an event happens in, or of the whole module if it is in none."""
    if event.function is not None:
        known = timeline.home.project.definition_of.get(id(event.function))
        if known is not None:
            return known[1].text
    return timeline.home.text


def _table_of(table: symtable.SymbolTable, event: Event) -> symtable.SymbolTable | None:
    """The names of the function that an event happens in."""
    function = event.function
    offset = event.statement.span.line - event.statement.node.at.line
    lines = {node.at.line + offset for node in (function, *function.decorators)} if function is not None else set()
    return next((t for t in _below(table) if t.get_type() == "function" and t.get_lineno() in lines), None)


def _below(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    """All that has names of its own in something, but for what runs where it stands."""
    for child in table.get_children():
        if child.get_name() not in ("listcomp", "setcomp", "dictcomp"):
            yield child
        yield from _below(child)


def _known(table: symtable.SymbolTable, name: str, how: Callable[[symtable.Symbol], bool]) -> bool:
    try:
        return how(table.lookup(name))
    except KeyError:
        return False


def _reads(table: symtable.SymbolTable, name: str, how: Callable[[symtable.Symbol], bool]) -> bool:
    return _known(table, name, how) and table.lookup(name).is_referenced()


def _imported(module: Module, name: str) -> bool:
    """Whether another module of the project may read a name of this one."""
    spoken = re.compile(
        rf"\b{module.name}\.{name}\b|from[^\n]*\b{module.name}\b[^\n]*\bimport\b[^\n]*(?:\*|\b{name}\b)"
    )
    others = (m for m in module.project.modules.values() if m is not None and m is not module)
    return any(spoken.search(m.text) for m in others)
