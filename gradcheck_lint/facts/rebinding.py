"""What becomes of a name that is given a new tensor: whether anybody reads it, and how to write in place instead."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from gradcheck_lint.facts import repair
from gradcheck_lint.finding import Fix, Safety
from gradcheck_lint.laws.mode import OFF
from gradcheck_lint.source import tree
from gradcheck_lint.source.effort import spend

if TYPE_CHECKING:
    from gradcheck_lint.finding import Edit
    from gradcheck_lint.source.events import Event
    from gradcheck_lint.source.timeline import Timeline

MAKING = frozenset(
    "add sub mul div addcmul addcdiv neg abs sqrt pow exp log sign clamp clip clone detach data view reshape flatten"
    " squeeze unsqueeze expand_as view_as type_as to cuda cpu float half double bfloat16 contiguous lerp where t"
    " transpose permute norm mean sum max min zeros ones zeros_like ones_like full full_like rand randn rand_like"
    " randn_like tensor as_tensor from_numpy empty_like normal Parameter requires_grad_ item size numel dim".split()
)
"""Functions and methods of tensors whose value is new (or a view), and which leave what they are given as it is."""


def makes_new(node: tree.Expression | None) -> bool:
    """Whether evaluating the expression gives a value and does nothing else."""
    if isinstance(node, (tree.Name, tree.Constant)):
        return True
    if isinstance(node, tree.Attribute):
        return makes_new(node.value)
    if isinstance(node, tree.Subscript):
        return makes_new(node.value)
    if isinstance(node, tree.Operation):
        return all(makes_new(operand) for operand in node.operands)
    if isinstance(node, tree.Conditional):
        return all(makes_new(part) for part in (node.test, node.body, node.orelse))
    if isinstance(node, tree.Call):
        if tree.last_name(node.func) not in MAKING:
            return False
        of = node.func.value if isinstance(node.func, tree.Attribute) else None
        return (of is None or makes_new(of)) and all(makes_new(a.value) for a in node.args)
    return False


def mentions(node: tree.Expression | None, name: str) -> bool:
    """Whether a dotted name occurs in the expression."""
    return node is not None and any(tree.dotted(inner) == name for inner in node.walk())


def renewed_by_hand(body: tree.Block, statement: tree.Node, target: tree.Expression, value: tree.Expression) -> bool:
    """Whether `w = w - lr * w.grad` is in a loop that does nothing else to give `w` a gradient again."""
    name = tree.dotted(target)
    if not isinstance(target, tree.Name) or not mentions(value, f"{name}.grad") or not _arithmetic(value):
        return False
    loops = [s for s, _, _ in _path(body, statement) or [] if isinstance(s, (tree.For, tree.While))]
    if not loops:
        return False
    for node in tree.walk_block(loops[0].body):
        if isinstance(node, tree.Attribute) and tree.dotted(node.value) == name and node.attr in _LEAF:
            return False
        if isinstance(node, (tree.Assign, tree.For)) and node is not statement:
            targets = node.targets if isinstance(node, tree.Assign) else [node.target]
            if any(_binds(t, name) for t in targets):
                return False
    return True


_LEAF = frozenset({"requires_grad", "requires_grad_", "retain_grad"})


def _arithmetic(node: tree.Expression) -> bool:
    """A sum, difference or product, whose result is never a leaf that needs a gradient."""
    if isinstance(node, tree.Call) and isinstance(node.func, tree.Attribute):
        return node.func.attr in ("add", "sub") and makes_new(node)
    return isinstance(node, tree.Operation) and makes_new(node)


# ---------------------------------------------------------------- who reads the new value


def loop_of(body: tree.Block, statement: tree.Node, name: str) -> tree.For | None:
    """The innermost loop around a statement that binds the name."""
    found = [s for s, _, _ in _path(body, statement) or [] if isinstance(s, tree.For) and _binds(s.target, name)]
    return found[-1] if found else None


def used_later(timeline: Timeline, event: Event, name: str) -> bool:
    """Whether the value that a statement gives to a name may be read before the name gets another one."""
    return read_later(body_of(timeline, event), event.statement.node, name) or _told_later(timeline, event, name)


def body_of(timeline: Timeline, event: Event) -> tree.Block:
    """The body of the function, or module, that an event happens in."""
    return event.function.body if event.function is not None else timeline.home.body


def _told_later(timeline: Timeline, event: Event, name: str) -> bool:
    """Whether a `print` or its like, which analysis does not read, speaks of a name further down."""
    span, project = event.statement.span, timeline.home.project
    module, definition = project.definition_of.get(id(event.function), (timeline.home, None))
    if module.path != span.path:
        return True
    return module.outline.tells(
        name, span.line, definition.last if definition is not None else len(module.outline.lines)
    )


def read_later(body: tree.Block, statement: tree.Node, name: str) -> bool:
    """Whether the value of a name is read further down or in a later turn of a loop, as far as that is analysed."""
    for around, block, index in reversed(_path(body, statement) or []):
        read = _use(block[index + 1 :], name)
        if read is not None:
            return read
        if isinstance(around, (tree.For, tree.While)):
            if isinstance(around, tree.For) and _binds(around.target, name):
                continue  # the next turn gives the name another value; the last turn's may be read after the loop
            if isinstance(around, tree.While) and _reads(around.test, name):
                return True
            if _use(block, name):
                return True
        elif isinstance(around, tree.Try) and _use([s for h in around.handlers for s in h] + around.final, name):
            return True
    return False


def tried(body: tree.Block, statement: tree.Node) -> bool:
    """Whether a statement stands right inside of a `try` or `with suppress(...)`, to see whether it raises an error."""
    path = _path(body, statement) or []
    around = path[-1][0] if path else None
    if isinstance(around, tree.With):
        return any(tree.last_name(item) in ("suppress", "raises", "assertRaises") for item, _ in around.items)
    return isinstance(around, tree.Try) and any(statement is inner for inner in around.body)


_Level = tuple[tree.Statement | None, tree.Block, int]  # a compound statement, its block, and the index there


def _path(body: tree.Block, statement: tree.Node, around: tree.Statement | None = None) -> list[_Level] | None:
    spend(1 + len(body))
    for index, inner in enumerate(body):
        if inner is statement:
            return [(around, body, index)]
        for block in _blocks(inner):
            found = _path(block, statement, inner)
            if found is not None:
                return [(around, body, index), *found]
    return None


def _blocks(statement: tree.Statement) -> Iterator[tree.Block]:
    if isinstance(statement, (tree.If, tree.For, tree.While)):
        yield statement.body
        yield statement.orelse
    elif isinstance(statement, tree.With):
        yield statement.body
    elif isinstance(statement, tree.Try):
        yield from (statement.body, *statement.handlers, statement.orelse, statement.final)
    elif isinstance(statement, tree.Match):
        yield from statement.arms


def _use(block: tree.Block, name: str) -> bool | None:
    """What some statements do with a name first: True if they (may) read it, False if they give it a new value."""
    for statement in block:
        used = _use_of(statement, name)
        if used is not None:
            return used
    return None


def _use_of(statement: tree.Statement, name: str) -> bool | None:
    if isinstance(statement, tree.Assign):
        others = [t for t in statement.targets if not isinstance(t, tree.Name)]
        if _reads(statement.value, name) or any(_reads(t, name) for t in others):
            return True
        return (
            False if len(others) < len(statement.targets) and any(_binds(t, name) for t in statement.targets) else None
        )
    if isinstance(statement, tree.For):
        if _reads(statement.iter, name):
            return True
        return (
            False
            if _binds(statement.target, name)
            else _use(statement.body, name) or _use(statement.orelse, name) or None
        )
    if isinstance(statement, tree.If):
        if _reads(statement.test, name):
            return True
        arms = [_use(statement.body, name), _use(statement.orelse, name)]
        return True if True in arms else False if arms == [False, False] else None
    if isinstance(statement, tree.With):
        if any(_reads(item, name) for item, _ in statement.items):
            return True
        return _use(statement.body, name)
    if isinstance(statement, (tree.Function, tree.Class)):
        return True if any(_reads(n, name) for n in tree.walk_block(statement.body)) else None
    return True if _reads(statement, name) else None


def _reads(node: tree.Node | None, name: str) -> bool:
    spend(1)
    if node is None:
        return False
    if isinstance(node, tree.Name):
        return node.id == name
    if isinstance(node, tree.Lambda):
        return any(_reads(n, name) for n in node.function.body)
    if isinstance(node, (tree.Function, tree.Class)):
        return any(_reads(n, name) for n in node.body)
    if isinstance(node, tree.Comprehension) and any(_binds(target, name) for target, _, _ in node.clauses):
        return any(_reads(iterable, name) for _, iterable, _ in node.clauses)
    return any(_reads(child, name) for child in node.children())


def _binds(target: tree.Expression, name: str) -> bool:
    if isinstance(target, tree.Name):
        return target.id == name
    if isinstance(target, tree.Display):
        return any(_binds(item, name) for item in target.items)
    return isinstance(target, tree.Starred) and _binds(target.value, name)


# ---------------------------------------------------------------- writing in place instead

_TORCH = re.compile(r"(?m)^[ \t]*import[ \t]+(?:[\w., \t]+,[ \t]*)?torch(?:\.\w+)*[ \t]*(?:,|#|$)")


def copy_instead(
    timeline: Timeline, event: Event, target: tree.Expression, value: tree.Expression | None, safety: Safety
) -> Fix | None:
    """The fix of `target = value` (or `target.data = value`): copy into the tensor that is there, under `no_grad`."""
    statement = event.statement
    if not isinstance(statement.node, tree.Assign) or len(statement.node.targets) != 1 or value is None:
        return None
    given = statement.node.targets[0]
    if given is not target and not (
        isinstance(given, tree.Attribute) and given.value is target and given.attr == "data"
    ):
        return None
    if isinstance(value, tree.Call) and tree.last_name(value.func) == "Parameter" and len(value.args) == 1:
        value = value.args[0].value
    code = statement.chunk.code
    written = f"{code(target)}.copy_({code(value)})"
    edit: Edit
    if event.context & OFF:
        edit = repair.replace(statement, written)
    else:
        stand = repair.stand(statement)
        if stand is None or timeline.home.path != statement.chunk.path or not _TORCH.search(timeline.home.text):
            return None
        edit = repair.replace(statement, f"with torch.no_grad():\n{stand.indent}    {written}")
    return Fix(f"copy the value into `{code(target)}`", safety, (edit,))
