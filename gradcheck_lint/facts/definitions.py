"""Functions as libcst reads them, for rules that look for a local pattern with its visitors and matchers.

The analysis reads with `ast`. What it took an expression for, and what happens there, is found again by the place at
which the nodes of both stand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source.effort import spend
from gradcheck_lint.source.place import Place, UnplacedError

if TYPE_CHECKING:
    import libcst as cst
    from libcst.metadata import MetadataWrapper

    from gradcheck_lint.source.events import Event
    from gradcheck_lint.source.place import Chunk
    from gradcheck_lint.source.project import Module
    from gradcheck_lint.source.run.recall import Recall
    from gradcheck_lint.source.tree import Node
    from gradcheck_lint.source.values import Value

T = TypeVar("T")


class DefinitionFacts:
    """A function or method, or the code of a module outside of these, whose `qualname` is "".

    Statements that only tell something (docstrings, `print(loss.item())`) are `pass` in it, and so are the bodies of
    functions in a module's own code: each of them is a definition.
    """

    def __init__(self, home: Module, qualname: str, chunk: Chunk, known: Known) -> None:
        self.home, self.qualname, self.chunk = home, qualname, chunk
        self._known = known

    @property
    def text(self) -> str:
        """Its text, as far as it is read."""
        return self.chunk.text

    @cached_property
    def tree(self) -> cst.FunctionDef | cst.Module:
        """Its node. Raises UnplacedError where libcst does not read what Python does; no rule is asked about that."""
        import libcst as cst

        try:
            module = self.chunk.module
        except cst.ParserSyntaxError as error:
            raise UnplacedError from error
        if not self.qualname:
            return module
        node: cst.CSTNode = module.body[0]
        if isinstance(node, cst.If):  # what is indented is parsed below an `if`, which stands for its class
            node = node.body.body[0]
        assert isinstance(node, cst.FunctionDef)
        return node

    @property
    def wrapper(self) -> MetadataWrapper:
        """What libcst makes metadata with: `matchers.findall(…, metadata_resolver=definition.wrapper)`."""
        return self.chunk.wrapper

    def visit(self, visitor: cst.CSTVisitor) -> None:
        """Let a visitor go over the tree, with the metadata that it declares."""
        with visitor.resolve(self.wrapper):
            self.tree.visit(visitor)

    def values(self, node: cst.BaseExpression) -> Sequence[Value]:
        """What an expression was taken for, each time that the analysis went over it; nothing if it never did.

        It goes over what it needs: of `a.b(c)` over `a` and `c`. What was called there is told by `events`.
        """
        found = self._values.get(node, [])
        spend(1 + len(found))
        return found

    def events(self, node: cst.CSTNode) -> Sequence[Event]:
        """What happens at a node (`Event.place`), each time that the analysis went over it."""
        found = self._events.get(node, [])
        spend(1 + len(found))
        return found

    def place(self, node: cst.CSTNode) -> Place:
        """Where a node stands, to report it or to make a fix there (`gradcheck_lint.facts.repair`)."""
        spend(1)
        return self.chunk.place(node)

    @cached_property
    def _values(self) -> Mapping[cst.CSTNode, list[Value]]:
        values = self._known.recall.of(self.chunk)
        return self._standing((node, value) for node, each in values.items() for value in each)

    @cached_property
    def _events(self) -> Mapping[cst.CSTNode, list[Event]]:
        return self._standing((event.place.node, event) for event in self._known.events.get(self.chunk, ()))

    def _standing(self, known: Iterable[tuple[Node, T]]) -> dict[cst.CSTNode, list[T]]:
        """What is known, by the libcst nodes that stand where it is known of."""
        found: dict[cst.CSTNode, list[T]] = {}
        for node, what in known:
            with suppress(UnplacedError):
                found.setdefault(self.chunk.concrete(node), []).append(what)
        return found


class Known:
    """What was seen in the chunks that rules read with libcst: the values, and the events."""

    def __init__(self, recall: Recall) -> None:
        self.recall = recall
        self.events: dict[Chunk, list[Event]] = {}

    def take(self, timeline: tl.Timeline) -> None:
        """Take in what an entry point causes in those chunks."""
        for event in tl.inside(timeline.tree) if self.recall.listens else ():
            if self.recall.wants(event.place.chunk):
                self.events.setdefault(event.place.chunk, []).append(event)


def definition_facts(module: Module, wanted: Callable[[str], bool], known: Known) -> Iterator[DefinitionFacts]:
    """The definitions of a module whose text is `wanted`, its own code first."""
    if wanted(module.chunk.text):
        yield DefinitionFacts(module, "", module.chunk, known)
    chunks = {id(module.project.definition_of[function][1]): chunk for function, chunk in module.chunks.items()}
    for definition in module.outline.definitions:
        if wanted(definition.text):
            chunk = chunks.get(id(definition)) or module.parse(definition)[0]
            yield DefinitionFacts(module, definition.qualname, chunk, known)
