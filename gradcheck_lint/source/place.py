"""Where a node stands in its file.

libcst's nodes carry no positions, and computing them for a whole file costs several times the parse. A `Chunk` is
the piece of a file that was parsed in one go (one function, or the module without its functions' bodies), and its
positions are computed only when something in it is reported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gradcheck_lint.finding import Span
from gradcheck_lint.source.tree import Node

if TYPE_CHECKING:
    import libcst as cst
    from libcst.metadata import CodeRange


class Chunk:
    """A parsed piece of the file `path`; line 1 of its text is line `offset + 1` of the file."""

    __slots__ = ("_ranges", "module", "offset", "path")

    def __init__(self, path: str, module: cst.Module, offset: int) -> None:
        self.path, self.module, self.offset = path, module, offset
        self._ranges: dict[cst.CSTNode, CodeRange] | None = None

    def span(self, node: cst.CSTNode) -> Span:
        """The span of a node of this chunk."""
        if self._ranges is None:
            from libcst.metadata import MetadataWrapper, PositionProvider

            wrapper = MetadataWrapper(self.module, unsafe_skip_copy=True)
            self._ranges = dict(wrapper.resolve(PositionProvider))
        found = self._ranges[node]
        start, end = found.start, found.end
        return Span(self.path, start.line + self.offset, start.column + 1, end.line + self.offset, end.column + 1)


class Place(NamedTuple):
    """A node and the chunk that it belongs to: everything needed to report it."""

    chunk: Chunk
    node: Node

    @property
    def span(self) -> Span:
        return self.chunk.span(self.node.cst)

    def __hash__(self) -> int:
        return id(self.node)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Place) and other.node is self.node
