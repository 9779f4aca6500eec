"""Where a node stands in its file, and which node of libcst stands there.

A `Chunk` is the piece of a file that was parsed in one go: one function, or the module without its functions' bodies.
The tree that is analysed comes from `ast`, which knows where its nodes are. Fixes are made from libcst's tree, which
keeps spaces and comments; it takes ten times as long to make, so a chunk is given to libcst only when a fix or the
code of something in it is asked for.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from functools import cached_property, lru_cache
from itertools import accumulate
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from gradcheck_lint.finding import Span
from gradcheck_lint.source import tree
from gradcheck_lint.source.position import Corner, OfBrackets, OfStatement, Position

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import libcst as cst
    from libcst.metadata import CodePosition, CodeRange, MetadataWrapper

_GAP = re.compile(r"(?:[\s\\]|#[^\n]*\n)*")
_COMMENT = re.compile(r"#[^\n]*")
_CLOSING = re.compile(r"(?:[\s\\)]|#[^\n]*\n)*")

_IN_PLACE: Mapping[int, int] = MappingProxyType({})

Corners = tuple[int, int, int, int]
"""Line and column of the start and of the end: lines counted from 1, columns in characters from 0."""


class UnplacedError(Exception):
    """libcst reads odd spaces (tabs among blanks, lone backslashes) otherwise than Python, or not at all."""


class Chunk:
    """A parsed piece of the file `path`; line 1 of its text is line `offset + 1` of the file.

    `shifts` are the lines that are not read as they stand in the file, and how much further to the right their code
    stands there.
    """

    def __init__(self, path: str, text: str, offset: int, shifts: Mapping[int, int] = _IN_PLACE) -> None:
        self.path, self.text, self.offset, self.shifts = path, text, offset, shifts
        self.function: tree.Function | None = None  # whose body it is; none of a module's own code
        self.stands: dict[tree.Node, Any] = {}  # for `facts.repair`: each mistake of a block asks for all that is in it

    @cached_property
    def lines(self) -> list[str]:
        return self.text.split("\n")

    def span(self, node: tree.Node) -> Span:
        """The span of a node of this chunk."""
        return self._span(self._corners(node))

    def code(self, node: tree.Node) -> str:
        """The source of a node, with the parentheses around it."""
        if isinstance(node, tree.Name):
            return node.id
        try:
            concrete = self.concrete(node)
        except UnplacedError:
            return segment(self.lines, node.at)
        return self.module.code_for_node(concrete)

    # -- libcst

    @cached_property
    def module(self) -> cst.Module:
        """The chunk as libcst's tree."""
        import libcst as cst

        return cst.parse_module(self.text)

    def concrete(self, node: tree.Node) -> cst.CSTNode:
        """The libcst node of an expression or statement of this chunk; raises UnplacedError if it has none."""
        import libcst as cst

        corners = self._corners(node)
        try:
            return self._statements[corners[:2]] if isinstance(node.at, OfStatement) else self._expressions[corners]
        except (KeyError, cst.ParserSyntaxError) as error:
            raise UnplacedError from error

    def span_of(self, node: cst.CSTNode) -> Span:
        """The span of a libcst node of this chunk."""
        found = self._ranges[node]
        return self._span((found.start.line, found.start.column, found.end.line, found.end.column))

    def place(self, node: cst.CSTNode) -> Place:
        """The place of a libcst node of this chunk. Its node says where that is, and nothing else."""
        import libcst as cst

        found = self._ranges[node]
        corners = (*self._in_bytes(found.start), *self._in_bytes(found.end))
        statement = isinstance(node, (cst.BaseSmallStatement, cst.BaseCompoundStatement))
        return Place(self, tree.Node(OfStatement(*corners) if statement else Position(*corners)))

    @cached_property
    def wrapper(self) -> MetadataWrapper:
        """The tree of libcst, with what its metadata are made with."""
        return _wrapper()(self.module, unsafe_skip_copy=True)

    @cached_property
    def _ranges(self) -> Mapping[cst.CSTNode, CodeRange]:
        from libcst.metadata import PositionProvider

        return self.wrapper.resolve(PositionProvider)

    def _in_bytes(self, position: CodePosition) -> Corner:
        """A position of libcst, which counts characters, as one of `ast`, which counts bytes."""
        before = self.lines[position.line - 1][: position.column]
        return position.line, len(before.encode("utf-8", "surrogatepass"))

    @cached_property
    def _expressions(self) -> dict[Corners, cst.CSTNode]:
        import libcst as cst

        kinds = (cst.BaseExpression,)
        return {(r.start.line, r.start.column, r.end.line, r.end.column): node for node, r in self._of(kinds)}

    @cached_property
    def _statements(self) -> dict[tuple[int, int], cst.CSTNode]:
        import libcst as cst

        kinds = (cst.BaseSmallStatement, cst.BaseCompoundStatement)
        return {(r.start.line, r.start.column): node for node, r in self._of(kinds)}

    def _of(self, kinds: tuple[type, ...]) -> Iterator[tuple[cst.CSTNode, CodeRange]]:
        """The nodes of some kinds, and where they are; a class of libcst is slow to ask and asked once."""
        met: dict[type, bool] = {}
        for node, found in self._ranges.items():
            kind = type(node)
            if kind not in met:
                met[kind] = issubclass(kind, kinds)
            if met[kind]:
                yield node, found

    @cached_property
    def blocks(self) -> dict[int, tuple[Sequence[cst.CSTNode], int]]:
        """The block that each libcst statement is in, by its id, and its index there."""
        return {id(node): (block, index) for block, index, node in _statements(self.module.body)}

    def let_go(self) -> None:
        """Let go of libcst's tree and what was made with it, a hundred times as big as the text: all were asked."""
        for name in ("module", "wrapper", "blocks", "_ranges", "_expressions", "_statements"):
            self.__dict__.pop(name, None)
        self.stands.clear()

    # -- positions

    def _span(self, corners: Corners) -> Span:
        line, column, end_line, end_column = corners
        line, end_line = line + self.offset, end_line + self.offset
        if self.shifts:
            column, end_column = column + self.shifts.get(line, 0), end_column + self.shifts.get(end_line, 0)
        return Span(self.path, line, column + 1, end_line, end_column + 1)

    def _corners(self, node: tree.Node) -> Corners:
        at = node.at
        start, end = at.line, at.end_line
        first = _characters(self.lines[start - 1], at.column)
        last = _characters(self.lines[end - 1], at.end_column)
        if isinstance(at, OfBrackets) and bracketed(self.lines, at):
            return self._inside(start, first, end, last, at.last.end if at.last is not None else None)
        return start, first, end, last

    def _inside(self, start: int, first: int, end: int, last: int, final: Corner | None) -> Corners:
        """What is inside the parentheses with these corners, as libcst and people see it; at `final` all in it ends."""
        text = "\n".join([*self.lines[start - 1 : end - 1], self.lines[end - 1][: last - 1]])
        gap = _GAP.match(text, first + 1)
        assert gap is not None
        before, kept = text[: gap.end()], text.rstrip()
        if final is not None:
            rest = self.lines[final[0] - 1 : end]
            rest[-1] = rest[-1][: last - 1]
            rest[0] = rest[0][_characters(rest[0], final[1]) :]
            tail = "\n".join(rest)
            kept = text.removesuffix(tail) + _COMMENT.sub("", tail).rstrip()
        line, last_line = start + before.count("\n"), start + kept.count("\n")
        return line, gap.end() - before.rfind("\n") - 1, last_line, len(kept) - kept.rfind("\n") - 1


@lru_cache(maxsize=1)
def _wrapper() -> type[MetadataWrapper]:
    """A wrapper that spares going through a tree for no visitors, which libcst does for as long as it takes."""
    from libcst.metadata import MetadataWrapper

    class Wrapper(MetadataWrapper):
        def visit_batched(
            self, visitors: Iterable[cst.BatchableCSTVisitor], before_visit: Any = None, after_leave: Any = None
        ) -> cst.CSTNode:
            wanted = list(visitors)
            return super().visit_batched(wanted, before_visit, after_leave) if wanted else self.module

    return Wrapper


class Place(NamedTuple):
    """A node and the chunk that it belongs to: everything needed to report it."""

    chunk: Chunk
    node: tree.Node

    @property
    def span(self) -> Span:
        return self.chunk.span(self.node)

    @property
    def code(self) -> str:
        """The source of the node, with the parentheses around it."""
        return self.chunk.code(self.node)

    @property
    def concrete(self) -> cst.CSTNode:
        """The libcst node that stands here: of an expression or a statement. Raises UnplacedError if there is none."""
        return self.chunk.concrete(self.node)

    def __hash__(self) -> int:
        return id(self.node)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Place) and other.node is self.node


def name_of(place: Place) -> Place:
    """The name in `def name(…)` or `class name:`; the place itself if it is neither."""
    node, at = place.node, place.node.at
    if not isinstance(node, (tree.Function, tree.Class)) or not isinstance(at, OfStatement):
        return place
    line, name = place.chunk.lines[at.line - 1].encode(), node.name.encode()
    start = line.find(name, line.find(b" ", at.column))
    if start < 0:
        return place
    return Place(place.chunk, tree.Name(Position(at.line, start, at.line, start + len(name)), node.name))


def bracketed(lines: list[str], at: OfBrackets) -> bool:
    """Whether the parentheses in which a tuple starts are its own: `(a, b)`, not `(a), b`."""
    if at.first is None:
        return True
    if at.start == at.first.start:
        return False
    opened = _COMMENT.sub("", _between(lines, at.start, at.first.start)).count("(")
    closing = _CLOSING.match(_between(lines, at.first.end, at.end))
    return opened > (closing[0].count(")") if closing is not None else 0)


def segment(lines: list[str], at: Position) -> str:
    """The text of some lines at a position of `ast`."""
    return _between(lines, at.start, at.end)


def _between(lines: list[str], start: Corner, end: Corner) -> str:
    """The text between two positions of `ast`, which counts bytes."""
    first = _characters(lines[start[0] - 1], start[1])
    last = _characters(lines[end[0] - 1], end[1])
    if start[0] == end[0]:
        return lines[start[0] - 1][first:last]
    return "\n".join([lines[start[0] - 1][first:], *lines[start[0] : end[0] - 1], lines[end[0] - 1][:last]])


def _characters(line: str, column: int) -> int:
    """The characters in so many bytes of a line."""
    if line.isascii():
        return column
    if len(line) > _LONG:
        return bisect_left(_offsets(line), column)
    return len(line.encode()[:column].decode("utf-8", "replace"))


_LONG = 500  # characters of a line in which places are looked up in a table


@lru_cache(maxsize=16)
def _offsets(line: str) -> list[int]:
    """At which byte each character of a line begins."""
    return [0, *accumulate(len(character.encode("utf-8", "surrogatepass")) for character in line)]


def _statements(body: Sequence[cst.CSTNode]) -> Iterator[tuple[Sequence[cst.CSTNode], int, cst.CSTNode]]:
    """Each statement of a block and of the blocks below it: the block, its index there, and its node."""
    import libcst as cst

    for index, node in enumerate(body):
        if isinstance(node, cst.SimpleStatementLine):
            for small in node.body:
                yield body, index, small
            continue
        yield body, index, node
        for suite in _suites(node):
            if isinstance(suite, cst.IndentedBlock):
                yield from _statements(suite.body)


def _suites(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """The blocks of a compound statement."""
    import libcst as cst

    for name in ("body", "orelse", "finalbody"):
        inner = getattr(node, name, None)
        if isinstance(inner, (cst.If, cst.Else, cst.Finally)):
            yield from _suites(inner)
        elif inner is not None:
            yield inner
    for part in (*getattr(node, "handlers", ()), *getattr(node, "cases", ())):
        yield part.body
