"""A small tree of what a program says, lowered from libcst (by `lower`) in one traversal.

libcst keeps every space and comment, which fixes need and analysis does not; these are the few node types that
analysis needs. Each keeps its libcst node in `cst`, so that a place in the file can be computed when, and only when,
something is reported there. Importing this module does not import libcst.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import libcst as cst


class Node:
    """Anything in the tree; `cst` is the libcst node that it was lowered from."""

    __slots__ = ("cst",)
    fields: tuple[str, ...] = ()

    def __init__(self, cst: cst.CSTNode) -> None:
        self.cst = cst

    def children(self) -> Iterator[Node]:
        """The nodes directly below this one, in source order."""
        for name in self.fields:
            yield from _nodes(getattr(self, name))

    def walk(self) -> Iterator[Node]:
        """This node and all below it; the bodies of nested functions and classes are not entered."""
        yield self
        for child in self.children():
            if isinstance(child, (Function, Class)):
                yield child
            else:
                yield from child.walk()


def _nodes(value: Any) -> Iterator[Node]:
    if isinstance(value, Node):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _nodes(item)


class Expression(Node):
    __slots__ = ()


class Name(Expression):
    __slots__ = ("id",)

    def __init__(self, cst: cst.CSTNode, id: str) -> None:
        self.cst, self.id = cst, id


class Attribute(Expression):
    __slots__ = ("attr", "value")
    fields = ("value",)

    def __init__(self, cst: cst.CSTNode, value: Expression, attr: str) -> None:
        self.cst, self.value, self.attr = cst, value, attr


class Argument(Node):
    """One argument of a call: `keyword` for `keyword=value`, `star` is "", "*" or "**"."""

    __slots__ = ("keyword", "star", "value")
    fields = ("value",)

    def __init__(self, cst: cst.CSTNode, value: Expression, keyword: str | None, star: str) -> None:
        self.cst, self.value, self.keyword, self.star = cst, value, keyword, star


class Call(Expression):
    __slots__ = ("args", "func")
    fields = ("func", "args")

    def __init__(self, cst: cst.CSTNode, func: Expression, args: list[Argument]) -> None:
        self.cst, self.func, self.args = cst, func, args


class Constant(Expression):
    """A literal; `value` is ... for one whose value does not matter (bytes, complex numbers, long strings)."""

    __slots__ = ("value",)

    def __init__(self, cst: cst.CSTNode, value: object) -> None:
        self.cst, self.value = cst, value


class Display(Expression):
    """A list, tuple or set display; `kind` is "list", "tuple" or "set"."""

    __slots__ = ("items", "kind")
    fields = ("items",)

    def __init__(self, cst: cst.CSTNode, kind: str, items: list[Expression]) -> None:
        self.cst, self.kind, self.items = cst, kind, items


class Dict(Expression):
    """A dict display: pairs of key and value; the key of `**value` is None."""

    __slots__ = ("pairs",)
    fields = ("pairs",)

    def __init__(self, cst: cst.CSTNode, pairs: list[tuple[Expression | None, Expression]]) -> None:
        self.cst, self.pairs = cst, pairs


class Comprehension(Expression):
    """`kind` is "list", "set", "dict" or "generator"; clauses are (target, iterable, conditions)."""

    __slots__ = ("clauses", "element", "kind", "value")
    fields = ("element", "value", "clauses")

    def __init__(
        self,
        cst: cst.CSTNode,
        kind: str,
        element: Expression,
        value: Expression | None,
        clauses: list[tuple[Expression, Expression, list[Expression]]],
    ) -> None:
        self.cst, self.kind, self.element, self.value, self.clauses = cst, kind, element, value, clauses


class Subscript(Expression):
    __slots__ = ("index", "value")
    fields = ("value", "index")

    def __init__(self, cst: cst.CSTNode, value: Expression, index: Expression) -> None:
        self.cst, self.value, self.index = cst, value, index


class Operation(Expression):
    """An operator applied to operands: "+", "not", "and", "==", "a < b < c" gives op "<" and three operands."""

    __slots__ = ("op", "operands")
    fields = ("operands",)

    def __init__(self, cst: cst.CSTNode, op: str, operands: list[Expression]) -> None:
        self.cst, self.op, self.operands = cst, op, operands


class Conditional(Expression):
    __slots__ = ("body", "orelse", "test")
    fields = ("test", "body", "orelse")

    def __init__(self, cst: cst.CSTNode, test: Expression, body: Expression, orelse: Expression) -> None:
        self.cst, self.test, self.body, self.orelse = cst, test, body, orelse


class Lambda(Expression):
    __slots__ = ("function",)

    def __init__(self, cst: cst.CSTNode, function: Function) -> None:
        self.cst, self.function = cst, function


class Starred(Expression):
    __slots__ = ("value",)
    fields = ("value",)

    def __init__(self, cst: cst.CSTNode, value: Expression) -> None:
        self.cst, self.value = cst, value


class Named(Expression):
    """`target := value`."""

    __slots__ = ("target", "value")
    fields = ("target", "value")

    def __init__(self, cst: cst.CSTNode, target: Expression, value: Expression) -> None:
        self.cst, self.target, self.value = cst, target, value


class Other(Expression):
    """Any other expression (await, yield, f-string, slice): only its parts matter."""

    __slots__ = ("kind", "parts")
    fields = ("parts",)

    def __init__(self, cst: cst.CSTNode, kind: str, parts: list[Expression]) -> None:
        self.cst, self.kind, self.parts = cst, kind, parts


class Statement(Node):
    __slots__ = ()


class Assign(Statement):
    """`a = b = value`; `annotation` for `a: T = value` (value is None in a bare `a: T`)."""

    __slots__ = ("annotation", "targets", "value")
    fields = ("targets", "value")

    def __init__(
        self, cst: cst.CSTNode, targets: list[Expression], value: Expression | None, annotation: Expression | None
    ) -> None:
        self.cst, self.targets, self.value, self.annotation = cst, targets, value, annotation


class Augment(Statement):
    """`target op= value`; `op` is the operator without "="."""

    __slots__ = ("op", "target", "value")
    fields = ("target", "value")

    def __init__(self, cst: cst.CSTNode, target: Expression, op: str, value: Expression) -> None:
        self.cst, self.target, self.op, self.value = cst, target, op, value


class Evaluate(Statement):
    """An expression used as a statement."""

    __slots__ = ("value",)
    fields = ("value",)

    def __init__(self, cst: cst.CSTNode, value: Expression) -> None:
        self.cst, self.value = cst, value


class Return(Statement):
    __slots__ = ("value",)
    fields = ("value",)

    def __init__(self, cst: cst.CSTNode, value: Expression | None) -> None:
        self.cst, self.value = cst, value


class Raise(Statement):
    __slots__ = ("value",)
    fields = ("value",)

    def __init__(self, cst: cst.CSTNode, value: Expression | None) -> None:
        self.cst, self.value = cst, value


class Jump(Statement):
    """`break` or `continue`."""

    __slots__ = ("kind",)

    def __init__(self, cst: cst.CSTNode, kind: str) -> None:
        self.cst, self.kind = cst, kind


class Delete(Statement):
    __slots__ = ("target",)
    fields = ("target",)

    def __init__(self, cst: cst.CSTNode, target: Expression) -> None:
        self.cst, self.target = cst, target


class Assert(Statement):
    __slots__ = ("test",)
    fields = ("test",)

    def __init__(self, cst: cst.CSTNode, test: Expression) -> None:
        self.cst, self.test = cst, test


class Import(Statement):
    """`names` are (dotted name, name bound here); `module` is None for a plain import, `level` counts the dots."""

    __slots__ = ("level", "module", "names")

    def __init__(self, cst: cst.CSTNode, module: str | None, level: int, names: list[tuple[str, str | None]]) -> None:
        self.cst, self.module, self.level, self.names = cst, module, level, names


class Scope(Statement):
    """`global` or `nonlocal`."""

    __slots__ = ("kind", "names")

    def __init__(self, cst: cst.CSTNode, kind: str, names: list[str]) -> None:
        self.cst, self.kind, self.names = cst, kind, names


Block = list[Statement]


class If(Statement):
    __slots__ = ("body", "orelse", "test")
    fields = ("test", "body", "orelse")

    def __init__(self, cst: cst.CSTNode, test: Expression, body: Block, orelse: Block) -> None:
        self.cst, self.test, self.body, self.orelse = cst, test, body, orelse


class For(Statement):
    __slots__ = ("body", "iter", "orelse", "target")
    fields = ("target", "iter", "body", "orelse")

    def __init__(self, cst: cst.CSTNode, target: Expression, iter: Expression, body: Block, orelse: Block) -> None:
        self.cst, self.target, self.iter, self.body, self.orelse = cst, target, iter, body, orelse


class While(Statement):
    __slots__ = ("body", "orelse", "test")
    fields = ("test", "body", "orelse")

    def __init__(self, cst: cst.CSTNode, test: Expression, body: Block, orelse: Block) -> None:
        self.cst, self.test, self.body, self.orelse = cst, test, body, orelse


class Try(Statement):
    __slots__ = ("body", "final", "handlers", "orelse")
    fields = ("body", "handlers", "orelse", "final")

    def __init__(self, cst: cst.CSTNode, body: Block, handlers: list[Block], orelse: Block, final: Block) -> None:
        self.cst, self.body, self.handlers, self.orelse, self.final = cst, body, handlers, orelse, final


class With(Statement):
    """Items are (expression, target)."""

    __slots__ = ("body", "items")
    fields = ("items", "body")

    def __init__(self, cst: cst.CSTNode, items: list[tuple[Expression, Expression | None]], body: Block) -> None:
        self.cst, self.items, self.body = cst, items, body


class Match(Statement):
    __slots__ = ("arms", "subject")
    fields = ("subject", "arms")

    def __init__(self, cst: cst.CSTNode, subject: Expression, arms: list[Block]) -> None:
        self.cst, self.subject, self.arms = cst, subject, arms


class Parameter:
    """A parameter of a function; `star` is "", "*" or "**"."""

    __slots__ = ("annotation", "default", "name", "star")

    def __init__(self, name: str, default: Expression | None, annotation: Expression | None, star: str) -> None:
        self.name, self.default, self.annotation, self.star = name, default, annotation, star


class Function(Statement):
    """A function. Where `load` is set, its body is read only when it is first asked for."""

    __slots__ = ("_body", "decorators", "load", "name", "parameters")

    def __init__(
        self,
        cst: cst.CSTNode,
        name: str,
        parameters: list[Parameter],
        decorators: list[Expression],
        body: Block,
    ) -> None:
        self.cst, self.name, self.parameters, self.decorators = cst, name, parameters, decorators
        self._body = body
        self.load: Callable[[], Block] | None = None

    @property
    def body(self) -> Block:
        if self.load is not None:
            load, self.load = self.load, None
            self._body = load()
        return self._body


class Class(Statement):
    __slots__ = ("bases", "body", "decorators", "keywords", "name")

    def __init__(
        self,
        cst: cst.CSTNode,
        name: str,
        bases: list[Expression],
        keywords: list[Argument],
        decorators: list[Expression],
        body: Block,
    ) -> None:
        self.cst, self.name, self.bases, self.keywords = cst, name, bases, keywords
        self.decorators, self.body = decorators, body


def dotted(node: Node | None) -> str:
    """`a.b.c` for a chain of names, "" for anything else."""
    parts: list[str] = []
    while isinstance(node, Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, Name):
        return ""
    parts.append(node.id)
    return ".".join(reversed(parts))


def last_name(node: Node | None) -> str:
    """The last identifier of an expression: `c` for `a.b.c`, `a["k"]` gives `k`, `f(x)` gives `f`."""
    while True:
        if isinstance(node, Name):
            return node.id
        if isinstance(node, Attribute):
            return node.attr
        if isinstance(node, Subscript):
            if isinstance(node.index, Constant) and isinstance(node.index.value, str):
                return node.index.value
            node = node.value
        elif isinstance(node, Call):
            node = node.func
        else:
            return ""


def walk_block(block: Iterable[Node]) -> Iterator[Node]:
    """All nodes of some statements; nested functions and classes are yielded, not entered."""
    for statement in block:
        if isinstance(statement, (Function, Class)):
            yield statement
        else:
            yield from statement.walk()
