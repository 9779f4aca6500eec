"""A small tree of what a program says, lowered from Python's `ast` (by `lower`) in one traversal.

These are the few node types that analysis needs. Each keeps in `at` the position that it was lowered from; `place`
makes a span of that, and finds the libcst node there, when something is reported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from typing import TYPE_CHECKING, Any

from gradcheck_lint.source.effort import spend

if TYPE_CHECKING:
    from gradcheck_lint.source.position import Position


class Container(Enum):
    """What a display or a comprehension makes."""

    LIST = "list"
    TUPLE = "tuple"
    SET = "set"
    DICT = "dict"
    GENERATOR = "generator"


class Exit(Enum):
    """How a statement is left: at its end, or by a jump."""

    END = "end"
    BREAK = "break"
    CONTINUE = "continue"
    RETURN = "return"
    RAISE = "raise"

    __hash__ = object.__hash__  # they are put into sets at each step, and that of Enum is slow


class Node:
    """Anything in the tree; `at` has its position in the text that was parsed with it."""

    __slots__ = ("at",)
    fields: tuple[str, ...] = ()

    def __init__(self, at: Position) -> None:
        self.at = at

    def children(self) -> Iterator[Node]:
        """The nodes directly below this one, in source order."""
        for name in self.fields:
            yield from _nodes(getattr(self, name))

    def walk(self) -> Iterator[Node]:
        """This node and all below it; the bodies of nested functions and classes are not entered."""
        todo: list[Node] = [self]
        met = 0
        while todo:
            met += 1
            if not met & 31:
                spend(8)
            node = todo.pop()
            yield node
            if node is self or not isinstance(node, (Function, Class)):
                for name in reversed(node.fields):
                    value = getattr(node, name)
                    if isinstance(value, Node):
                        todo.append(value)
                    elif value:
                        todo += reversed(list(_nodes(value)))


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

    def __init__(self, at: Position, id: str) -> None:
        self.at, self.id = at, id


class Attribute(Expression):
    __slots__ = ("attr", "value")
    fields = ("value",)

    def __init__(self, at: Position, value: Expression, attr: str) -> None:
        self.at, self.value, self.attr = at, value, attr


class Argument(Node):
    """One argument of a call: `keyword` for `keyword=value`, `star` is "", "*" or "**"."""

    __slots__ = ("keyword", "star", "value")
    fields = ("value",)

    def __init__(self, at: Position, value: Expression, keyword: str | None, star: str) -> None:
        self.at, self.value, self.keyword, self.star = at, value, keyword, star


class Call(Expression):
    __slots__ = ("args", "func")
    fields = ("func", "args")

    def __init__(self, at: Position, func: Expression, args: list[Argument]) -> None:
        self.at, self.func, self.args = at, func, args


class Constant(Expression):
    """A literal; `value` is ... for one whose value does not matter (bytes, complex numbers, long strings)."""

    __slots__ = ("value",)

    def __init__(self, at: Position, value: object) -> None:
        self.at, self.value = at, value


class Display(Expression):
    """A list, tuple or set display."""

    __slots__ = ("items", "kind")
    fields = ("items",)

    def __init__(self, at: Position, kind: Container, items: list[Expression]) -> None:
        self.at, self.kind, self.items = at, kind, items


class Dict(Expression):
    """A dict display: pairs of key and value; the key of `**value` is None."""

    __slots__ = ("pairs",)
    fields = ("pairs",)

    def __init__(self, at: Position, pairs: list[tuple[Expression | None, Expression]]) -> None:
        self.at, self.pairs = at, pairs


class Comprehension(Expression):
    """Clauses are (target, iterable, conditions)."""

    __slots__ = ("clauses", "element", "kind", "value")
    fields = ("element", "value", "clauses")

    def __init__(
        self,
        at: Position,
        kind: Container,
        element: Expression,
        value: Expression | None,
        clauses: list[tuple[Expression, Expression, list[Expression]]],
    ) -> None:
        self.at, self.kind, self.element, self.value, self.clauses = at, kind, element, value, clauses


class Subscript(Expression):
    __slots__ = ("index", "value")
    fields = ("value", "index")

    def __init__(self, at: Position, value: Expression, index: Expression) -> None:
        self.at, self.value, self.index = at, value, index


class Operation(Expression):
    """An operator applied to operands: "+", "not", "and", "==", "a < b < c" gives op "<" and three operands."""

    __slots__ = ("op", "operands")
    fields = ("operands",)

    def __init__(self, at: Position, op: str, operands: list[Expression]) -> None:
        self.at, self.op, self.operands = at, op, operands


class Conditional(Expression):
    __slots__ = ("body", "orelse", "test")
    fields = ("test", "body", "orelse")

    def __init__(self, at: Position, test: Expression, body: Expression, orelse: Expression) -> None:
        self.at, self.test, self.body, self.orelse = at, test, body, orelse


class Lambda(Expression):
    __slots__ = ("function",)

    def __init__(self, at: Position, function: Function) -> None:
        self.at, self.function = at, function


class Starred(Expression):
    __slots__ = ("value",)
    fields = ("value",)

    def __init__(self, at: Position, value: Expression) -> None:
        self.at, self.value = at, value


class Named(Expression):
    """`target := value`."""

    __slots__ = ("target", "value")
    fields = ("target", "value")

    def __init__(self, at: Position, target: Expression, value: Expression) -> None:
        self.at, self.target, self.value = at, target, value


class Other(Expression):
    """Any other expression (f-string, indices): only its parts matter."""

    __slots__ = ("parts",)
    fields = ("parts",)

    def __init__(self, at: Position, parts: list[Expression]) -> None:
        self.at, self.parts = at, parts


class Slice(Other):
    """`[a:b:c]`, with those of the three that are written down."""

    __slots__ = ()


class Yield(Other):
    """`yield` or `yield from`."""

    __slots__ = ()


class YieldFrom(Yield):
    """`yield from`."""

    __slots__ = ()


class Statement(Node):
    __slots__ = ()


class Assign(Statement):
    """`a = b = value`; `annotation` for `a: T = value` (value is None in a bare `a: T`)."""

    __slots__ = ("annotation", "targets", "value")
    fields = ("targets", "value")

    def __init__(
        self, at: Position, targets: list[Expression], value: Expression | None, annotation: Expression | None
    ) -> None:
        self.at, self.targets, self.value, self.annotation = at, targets, value, annotation


class Augment(Statement):
    """`target op= value`; `op` is the operator without "="."""

    __slots__ = ("op", "target", "value")
    fields = ("target", "value")

    def __init__(self, at: Position, target: Expression, op: str, value: Expression) -> None:
        self.at, self.target, self.op, self.value = at, target, op, value


class Evaluate(Statement):
    """An expression used as a statement."""

    __slots__ = ("value",)
    fields = ("value",)

    def __init__(self, at: Position, value: Expression) -> None:
        self.at, self.value = at, value


class Return(Statement):
    __slots__ = ("value",)
    fields = ("value",)

    def __init__(self, at: Position, value: Expression | None) -> None:
        self.at, self.value = at, value


class Raise(Statement):
    __slots__ = ("value",)
    fields = ("value",)

    def __init__(self, at: Position, value: Expression | None) -> None:
        self.at, self.value = at, value


class Jump(Statement):
    """`break` or `continue`."""

    __slots__ = ("kind",)

    def __init__(self, at: Position, kind: Exit) -> None:
        self.at, self.kind = at, kind


class Delete(Statement):
    __slots__ = ("target",)
    fields = ("target",)

    def __init__(self, at: Position, target: Expression) -> None:
        self.at, self.target = at, target


class Assert(Statement):
    __slots__ = ("test",)
    fields = ("test",)

    def __init__(self, at: Position, test: Expression) -> None:
        self.at, self.test = at, test


class Import(Statement):
    """`names` are (dotted name, name bound here); `module` is None for a plain import, `level` counts the dots."""

    __slots__ = ("level", "module", "names")

    def __init__(self, at: Position, module: str | None, level: int, names: list[tuple[str, str | None]]) -> None:
        self.at, self.module, self.level, self.names = at, module, level, names


class Scope(Statement):
    """`global` or `nonlocal`."""

    __slots__ = ("names", "of_module")

    def __init__(self, at: Position, of_module: bool, names: list[str]) -> None:
        self.at, self.of_module, self.names = at, of_module, names


Block = list[Statement]


class If(Statement):
    __slots__ = ("body", "orelse", "test")
    fields = ("test", "body", "orelse")

    def __init__(self, at: Position, test: Expression, body: Block, orelse: Block) -> None:
        self.at, self.test, self.body, self.orelse = at, test, body, orelse


class For(Statement):
    __slots__ = ("body", "iter", "orelse", "target")
    fields = ("target", "iter", "body", "orelse")

    def __init__(self, at: Position, target: Expression, iter: Expression, body: Block, orelse: Block) -> None:
        self.at, self.target, self.iter, self.body, self.orelse = at, target, iter, body, orelse


class While(Statement):
    __slots__ = ("body", "orelse", "test")
    fields = ("test", "body", "orelse")

    def __init__(self, at: Position, test: Expression, body: Block, orelse: Block) -> None:
        self.at, self.test, self.body, self.orelse = at, test, body, orelse


class Try(Statement):
    __slots__ = ("body", "final", "handlers", "orelse")
    fields = ("body", "handlers", "orelse", "final")

    def __init__(self, at: Position, body: Block, handlers: list[Block], orelse: Block, final: Block) -> None:
        self.at, self.body, self.handlers, self.orelse, self.final = at, body, handlers, orelse, final


class With(Statement):
    """Items are (expression, target)."""

    __slots__ = ("body", "items")
    fields = ("items", "body")

    def __init__(self, at: Position, items: list[tuple[Expression, Expression | None]], body: Block) -> None:
        self.at, self.items, self.body = at, items, body


class Match(Statement):
    __slots__ = ("arms", "subject")
    fields = ("subject", "arms")

    def __init__(self, at: Position, subject: Expression, arms: list[Block]) -> None:
        self.at, self.subject, self.arms = at, subject, arms


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
        at: Position,
        name: str,
        parameters: list[Parameter],
        decorators: list[Expression],
        body: Block,
    ) -> None:
        self.at, self.name, self.parameters, self.decorators = at, name, parameters, decorators
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
        at: Position,
        name: str,
        bases: list[Expression],
        keywords: list[Argument],
        decorators: list[Expression],
        body: Block,
    ) -> None:
        self.at, self.name, self.bases, self.keywords = at, name, bases, keywords
        self.decorators, self.body = decorators, body


def alone(statement: Node | None, node: Node) -> bool:
    """Whether an expression is a whole statement, so that nobody uses what it gives."""
    return isinstance(statement, Evaluate) and statement.value is node


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
        spend(1)
        if isinstance(statement, (Function, Class)):
            yield statement
        else:
            yield from statement.walk()
