"""Edits for fixes, made from places: lines put in, deleted and moved, nodes replaced.

A line is put beside a statement, or a statement deleted or moved, only where the statement has its lines to itself:
`stand` gives None for one that shares a line with another (`a; b`, `if x: y`), and for an `elif`.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from gradcheck_lint.finding import Edit, Span
from gradcheck_lint.source.place import Place, UnplacedError, name_of

if TYPE_CHECKING:  # rules import this module, and only a finding is worth the time that importing libcst takes
    import libcst as cst

    from gradcheck_lint.source import tree


class Stand(NamedTuple):
    """Where a statement stands: its lines (first and last), its indentation, and its place in its block."""

    path: str
    first: int
    last: int
    indent: str
    text: str  # its lines as they are, each with its line ending
    block: Sequence[cst.CSTNode]
    position: int  # its index in the block

    def beside(self, other: Stand) -> bool:
        """Whether both stand in one block, so that each runs exactly when the other does (unless one jumps)."""
        return self.path == other.path and self.block is other.block

    @property
    def alone(self) -> bool:
        """Whether it is the only statement of its block, which cannot be left without it."""
        return len(self.block) == 1


def text(place: Place) -> str:
    """The source text of a node, on one line."""
    return " ".join(place.code.split())


def receiver(call: Place) -> str:
    """The source text of what a method is called on: `self.optimizer` for `self.optimizer.step()`."""
    from gradcheck_lint.source import tree

    node = call.node
    if isinstance(node, tree.Call) and isinstance(node.func, tree.Attribute):
        return text(Place(call.chunk, node.func.value))
    return ""


def argument(call: Place, index: int) -> str:
    """The source text of an argument of a call, "" if it has none there."""
    from gradcheck_lint.source import tree

    node = call.node
    if isinstance(node, tree.Call) and index < len(node.args):
        return text(Place(call.chunk, node.args[index].value))
    return ""


def stand(statement: Place) -> Stand | None:
    """Where a statement stands, or None if it does not have its lines to itself."""
    known: dict[tree.Node, Stand | None] = statement.chunk.stands
    if statement.node not in known:
        known[statement.node] = _stand(statement)
    return known[statement.node]


def _stand(statement: Place) -> Stand | None:
    import libcst as cst

    try:
        node = statement.concrete
    except UnplacedError:
        return None
    found = statement.chunk.blocks.get(id(node))
    if found is None:
        return None
    block, index = found
    outer = block[index]
    if isinstance(outer, cst.SimpleStatementLine) and len(outer.body) > 1:
        return None
    span = statement.chunk.span_of(outer)
    offset = statement.chunk.offset
    lines = statement.chunk.lines[span.line - offset - 1 : _last(span) - offset]
    rows = "".join(f"{line}\n" for line in lines)
    indent = lines[0][: span.column - 1]
    if indent.strip() or rows.endswith("\\\n"):
        return None
    if any(line in statement.chunk.shifts for line in range(span.line, _last(span) + 1)):
        return None  # what would be put beside it may not stand where it seems to
    return Stand(span.path, span.line, _last(span), indent, rows, block, index)


def end_of_block(statement: Place) -> Stand | None:
    """Where the last statement of the block stands that a statement is in; its indentation is that of the block."""
    here = stand(statement)
    if here is None:
        return None
    span = statement.chunk.span_of(here.block[-1])
    return here._replace(first=span.line, last=_last(span), text="", position=len(here.block) - 1)


def insert_before(target: Stand, line: str) -> Edit:
    """Put a line of its own before a statement, with its indentation."""
    return Edit(Span(target.path, target.first, 1, target.first, 1), f"{target.indent}{line}\n")


def insert_after(target: Stand, line: str) -> Edit:
    """Put a line of its own after a statement, with its indentation."""
    return Edit(Span(target.path, target.last + 1, 1, target.last + 1, 1), f"{target.indent}{line}\n")


def within(target: Stand, head: str) -> Edit:
    """Put a statement into a block of its own: `with torch.enable_grad():`."""
    return _replace(target, f"{target.indent}{head}\n{textwrap.indent(target.text, '    ')}")


def decorate(function: Place, decorator: str) -> Edit:
    """Put a decorator directly above a function."""
    span = name_of(function).span
    lines = function.chunk.lines
    line = lines[span.line - function.chunk.offset - 1]
    indent = line[: len(line) - len(line.lstrip())]
    return Edit(Span(span.path, span.line, 1, span.line, 1), f"{indent}{decorator}\n")


def delete(target: Stand) -> Edit:
    """Delete a statement with its lines. Comments behind it stay, each on a line of its own."""
    from gradcheck_lint.source.comments import every, speaks_to_tools

    comments = [comment.text for comment in every(textwrap.dedent(target.text))]
    kept = "".join(f"{target.indent}{comment}\n" for comment in comments if not speaks_to_tools(comment))
    return _replace(target, kept)


def move_before(moved: Stand, target: Stand) -> tuple[Edit, ...]:
    """Move a statement to the line before another one of the same block."""
    assert moved.indent == target.indent
    return _replace(moved, ""), Edit(Span(target.path, target.first, 1, target.first, 1), moved.text)


def move_after(moved: Stand, target: Stand) -> tuple[Edit, ...]:
    """Move a statement to the line after another one of the same block."""
    assert moved.indent == target.indent
    return _replace(moved, ""), Edit(Span(target.path, target.last + 1, 1, target.last + 1, 1), moved.text)


def _replace(target: Stand, lines: str) -> Edit:
    return Edit(Span(target.path, target.first, 1, target.last + 1, 1), lines)


def replace(place: Place, new: str) -> Edit:
    """Replace the text of a node."""
    return Edit(place.span, new)


def rebracket(span: Span, opening: str, closing: str) -> tuple[Edit, Edit]:
    """Replace the first and the last character of a span: `{a, b}` becomes `[a, b]`."""
    return (
        Edit(Span(span.path, span.line, span.column, span.line, span.column + 1), opening),
        Edit(Span(span.path, span.end_line, span.end_column - 1, span.end_line, span.end_column), closing),
    )


def enclose(place: Place, before: str, after: str) -> tuple[Edit, Edit]:
    """Put text directly before and behind a node."""
    span = place.span
    return Edit(Span(span.path, span.line, span.column, span.line, span.column), before), append(place, after)


def parenthesised(place: Place) -> Span | None:
    """The span of a node with the one pair of parentheses around it; None if it has another number of pairs."""
    import libcst as cst

    try:
        node, span = place.concrete, place.span
    except UnplacedError:
        return None
    if not isinstance(node, cst.BaseExpression) or len(node.lpar) != 1 or len(node.rpar) != 1:
        return None
    if not node.lpar[0].whitespace_after.empty or not node.rpar[0].whitespace_before.empty:
        return None
    return Span(span.path, span.line, span.column - 1, span.end_line, span.end_column + 1)


def append(place: Place, new: str) -> Edit:
    """Put text directly behind a node."""
    span = place.span
    return Edit(Span(span.path, span.end_line, span.end_column, span.end_line, span.end_column), new)


def _last(span: Span) -> int:
    """The last line of a span; one that ends at the start of a line does not take part in that line."""
    return span.end_line if span.end_column > 1 or span.end_line == span.line else span.end_line - 1
