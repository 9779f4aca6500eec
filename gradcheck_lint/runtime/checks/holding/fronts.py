"""What lies in front of all that is trained: a network whose outputs are nothing but the input of held layers.

A reservoir, random features, a tower under a probe lie there, and are meant to stay as they are; so does an encoder
that was forgotten.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from gradcheck_lint.runtime.graph import LIMIT, kind

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from torch import Tensor

_SHAPES = frozenset({"T", "Transpose", "Permute", "View", "UnsafeView", "Reshape", "ReshapeAlias", "ToCopy"})


def in_front(roots: Iterable[Tensor], held: Collection[int]) -> set[int]:
    """The ids of the leaves behind a loss that are used in front of held ones, and of nothing that these made."""
    parents: dict[Any, list[Any]] = {}
    leaves: list[Any] = []
    todo: deque[Any] = deque(dict.fromkeys(root.grad_fn for root in roots if root.grad_fn is not None))
    seen: set[Any] = set(todo)
    while todo and len(seen) < LIMIT:
        node = todo.popleft()
        if hasattr(node, "variable"):
            leaves.append(node)
        for following, _ in node.next_functions:
            if following is None:
                continue
            parents.setdefault(following, []).append(node)
            if following not in seen:
                seen.add(following)
                todo.append(following)
    users = {leaf: _users(leaf, parents) for leaf in leaves}
    trained = [leaf for leaf in leaves if id(leaf.variable) in held]
    made = _closure(trained, lambda node: parents.get(node, ()))
    layers = [user for leaf in trained for user in users[leaf]]
    inputs = _closure(layers, lambda node: [n for n, _ in node.next_functions if n is not None]) - {*layers}
    return {
        id(leaf.variable)
        for leaf in leaves
        if id(leaf.variable) not in held and all(user in inputs and user not in made for user in users[leaf])
    }


def may_be_meant(front: Sequence[Tensor], held: Sequence[Tensor]) -> bool:
    """Whether what is held is a single layer, or less than what lies in front of it: a readout, or a probe."""
    return _matrices(held) <= 1 or _matrices(front) > _matrices(held)


def _matrices(tensors: Sequence[Tensor]) -> int:
    return sum(tensor.ndim > 1 for tensor in tensors)


def _users(leaf: Any, parents: dict[Any, list[Any]]) -> list[Any]:
    """The nodes that compute with a leaf, whatever its shape."""
    found, todo = [], list(parents.get(leaf, ()))
    while todo:
        node = todo.pop()
        if kind(node) in _SHAPES and node in parents:
            todo += parents[node]
        else:
            found.append(node)
    return found


def _closure(nodes: Iterable[Any], following: Any) -> set[Any]:
    found, todo = set(), list(nodes)
    while todo:
        node = todo.pop()
        if node not in found:
            found.add(node)
            todo += following(node)
    return found
