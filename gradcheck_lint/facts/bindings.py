"""What the names of one function are given, and where they are read: a look at its text alone."""

from __future__ import annotations

from collections.abc import Iterator

from gradcheck_lint.source import tree


class Bindings:
    """The plain names of a function, each with the expressions that it is given; None for one that is not known."""

    def __init__(self, function: tree.Function) -> None:
        self.function = function
        self.parameters = [parameter.name for parameter in function.parameters]
        self.given: dict[str, list[tree.Expression | None]] = {name: [None] for name in self.parameters}
        self.reads: dict[str, int] = {}
        self.changed: set[str] = set()  # names whose object is written into
        bound: set[int] = set()
        self.nodes = list(nodes(function))
        for node in self.nodes:
            if isinstance(node, tree.Assign):
                for target in node.targets:
                    self._bind(target, node.value, bound)
            elif isinstance(node, tree.For):
                self._bind(node.target, None, bound)
            elif isinstance(node, tree.Augment):
                self.changed.update(_base(node.target))  # a tensor stays the same one
            elif isinstance(node, tree.Named):
                self._bind(node.target, node.value, bound)
            elif isinstance(node, tree.With):
                for _, as_name in node.items:
                    if as_name is not None:
                        self._bind(as_name, None, bound)
            elif isinstance(node, tree.Comprehension):
                for of, _, _ in node.clauses:
                    self._bind(of, None, bound)
            elif isinstance(node, tree.Name) and id(node) not in bound:
                self.reads[node.id] = self.reads.get(node.id, 0) + 1

    def _bind(self, target: tree.Expression, value: tree.Expression | None, bound: set[int]) -> None:
        if isinstance(target, tree.Name):
            bound.add(id(target))
            self.given.setdefault(target.id, []).append(value)
        elif isinstance(target, tree.Starred):
            self._bind(target.value, None, bound)
        elif isinstance(target, tree.Display):
            parts = value.items if isinstance(value, tree.Display) and len(value.items) == len(target.items) else None
            for index, item in enumerate(target.items):
                self._bind(item, parts[index] if parts is not None else None, bound)
        else:
            self.changed.update(_base(target))

    def once(self, name: str) -> tree.Expression | None:
        """The one expression that a name is given, if there is just one and it is known."""
        given = self.given.get(name, [])
        return given[0] if len(given) == 1 else None

    def always_none(self, node: tree.Expression) -> bool:
        """Whether an expression is None on every path: itself, or a name that is never given anything else."""
        if isinstance(node, tree.Constant):
            return node.value is None
        if not isinstance(node, tree.Name):
            return False
        given = self.given.get(node.id, [])
        return bool(given) and all(isinstance(v, tree.Constant) and v.value is None for v in given)


def _base(target: tree.Expression) -> Iterator[str]:
    """The name whose object a target writes into: `x` for `x[0]`, `x.data` and, in an augmented assignment, `x`."""
    while isinstance(target, (tree.Subscript, tree.Attribute)):
        target = target.value
    if isinstance(target, tree.Name):
        yield target.id


def nodes(function: tree.Function) -> Iterator[tree.Node]:
    """All nodes of a function, those of functions in it too."""
    todo: list[tree.Function] = [function]
    while todo:
        for node in tree.walk_block(todo.pop().body):
            yield node
            if isinstance(node, tree.Function):
                todo.append(node)
            elif isinstance(node, tree.Lambda):
                todo.append(node.function)


def returns(function: tree.Function) -> list[tree.Return]:
    """Its own `return` statements."""
    return [node for node in tree.walk_block(function.body) if isinstance(node, tree.Return)]
