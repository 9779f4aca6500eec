"""Questions to the tree alone: no value, and nothing of the run, is looked at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gradcheck_lint.source import tree


def method_kind(function: tree.Function) -> str:
    for decorator in function.decorators:
        name = tree.last_name(decorator)
        if name in ("property", "cached_property"):
            return "property"
        if name == "staticmethod":
            return "static"
        if name == "classmethod":
            return "class"
        if name in ("setter", "deleter"):
            return "setter"
    return "plain"


def flat(body: Iterable[tree.Statement]) -> Iterable[tree.Statement]:
    """The statements of a class body, those in branches, loops and `try` among them."""
    for statement in body:
        if isinstance(statement, (tree.If, tree.For, tree.While)):
            yield from flat([*statement.body, *statement.orelse])
        elif isinstance(statement, tree.With):
            yield from flat(statement.body)
        elif isinstance(statement, tree.Try):
            handlers = [inner for handler in statement.handlers for inner in handler]
            yield from flat([*statement.body, *handlers, *statement.orelse, *statement.final])
        else:
            yield statement


def is_none(node: tree.Expression) -> bool:
    return isinstance(node, tree.Constant) and node.value is None


def whole(index: tree.Expression) -> bool:
    """Whether an index is that of all elements: `[:]` or `[...]`."""
    if isinstance(index, tree.Constant):
        return index.value is ...
    return isinstance(index, tree.Slice) and not index.parts


def range_of_one(node: tree.Call) -> bool:
    return (
        isinstance(node.func, tree.Name)
        and node.func.id == "range"
        and len(node.args) == 1
        and isinstance(node.args[0].value, tree.Constant)
        and node.args[0].value.value == 1
    )


def asks_for_grad(node: tree.Comprehension) -> bool:
    """Whether the conditions pick the parameters that require grad, and do nothing else."""
    tests = [test for _, _, tests in node.clauses for test in tests]
    return len(tests) == 1 and isinstance(tests[0], tree.Attribute) and tests[0].attr == "requires_grad"


def leaves(body: tree.Block) -> bool:
    """Whether a loop may be left before its iterator is used up."""
    return any(
        isinstance(n, tree.Return) or (isinstance(n, tree.Jump) and n.kind is tree.Exit.BREAK)
        for n in tree.walk_block(body)
    )


def breaks(body: tree.Block) -> bool:
    for statement in body:
        if isinstance(statement, tree.Jump) and statement.kind is tree.Exit.BREAK:
            return True
        if isinstance(statement, tree.If) and (breaks(statement.body) or breaks(statement.orelse)):
            return True
        if isinstance(statement, tree.With) and breaks(statement.body):
            return True
        if isinstance(statement, tree.Try) and (
            breaks(statement.body) or any(breaks(h) for h in statement.handlers) or breaks(statement.orelse)
        ):
            return True
        if isinstance(statement, tree.Match) and any(breaks(a) for a in statement.arms):
            return True
    return False


def assigned(body: tree.Block) -> dict[str, None]:
    """The plain names that statements assign, in the order of the code."""
    names: dict[str, None] = {}
    for node in tree.walk_block(body):
        if isinstance(node, tree.Assign):
            for target in node.targets:
                names.update((name.id, None) for name in names_in(target))
        elif isinstance(node, (tree.Augment, tree.Named, tree.For)):
            names.update((name.id, None) for name in names_in(node.target))
    return names


def names_in(target: tree.Expression) -> Iterator[tree.Name]:
    """The plain names that a target binds."""
    if isinstance(target, tree.Name):
        yield target
    elif isinstance(target, tree.Display):
        for item in target.items:
            yield from names_in(item)


def pairs(target: tree.Expression, key: tree.Expression, value: tree.Expression | None) -> bool:
    """Whether `{key: value for target in …}` takes the pairs as they are."""
    if not isinstance(target, tree.Display) or len(target.items) != 2:
        return False
    names = [tree.dotted(item) for item in target.items]
    return all(names) and names == [tree.dotted(key), tree.dotted(value)]


def passes_on(target: tree.Expression, value: tree.Expression | None) -> bool:
    """Whether `{…: value for target in state.items()}` keeps the tensors: only `.data`, `.detach()`, `.cpu()`."""
    if not isinstance(target, tree.Display) or len(target.items) != 2:
        return False
    while True:
        if isinstance(value, tree.Attribute) and value.attr == "data":
            value = value.value
        elif isinstance(value, tree.Call) and isinstance(value.func, tree.Attribute) and not value.args:
            if value.func.attr not in ("detach", "cpu"):
                return False
            value = value.func.value
        else:
            return isinstance(value, tree.Name) and value.id == tree.dotted(target.items[1])
