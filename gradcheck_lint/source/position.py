"""Where a node begins and ends in the text that was parsed, as `ast` counts: lines from 1, columns in bytes from 0.

`ast`'s own nodes know it too, but a tree of theirs takes four times the memory of what is kept of it, so each is let
go as soon as it was lowered.
"""

from __future__ import annotations

import ast
from typing import NamedTuple

Corner = tuple[int, int]
"""A line and a column."""


class Position(NamedTuple):
    """An expression."""

    line: int
    column: int
    end_line: int
    end_column: int

    @property
    def start(self) -> Corner:
        return self[:2]

    @property
    def end(self) -> Corner:
        return self[2:4]


class OfStatement(Position):
    """A statement."""

    __slots__ = ()


class OfBrackets(Position):
    """A generator expression or a tuple, whose parentheses `ast` counts among it: here is what lies inside of them."""

    first: Position | None  # the first item of a tuple: its parentheses may be of that item alone
    last: Position | None  # what comes last in it, if anything does


def position(node: ast.expr | ast.stmt | ast.keyword) -> Position:
    """The position of a node of `ast`."""
    if isinstance(node, (ast.Tuple, ast.GeneratorExp)):
        return _of_brackets(node)
    return OfStatement(*_corners(node)) if isinstance(node, ast.stmt) else Position(*_corners(node))


def _corners(node: ast.expr | ast.stmt | ast.keyword) -> tuple[int, int, int, int]:
    return node.lineno, node.col_offset, node.end_lineno or node.lineno, node.end_col_offset or 0


def _of_brackets(node: ast.Tuple | ast.GeneratorExp) -> OfBrackets:
    found = OfBrackets(*_corners(node))
    if isinstance(node, ast.Tuple):
        first, last = (node.elts[0], node.elts[-1]) if node.elts else (None, None)
    else:
        clause = node.generators[-1]
        first, last = None, (clause.ifs or [clause.iter])[-1]
    found.first = Position(*_corners(first)) if first is not None else None
    found.last = Position(*_corners(last)) if last is not None else None
    return found
