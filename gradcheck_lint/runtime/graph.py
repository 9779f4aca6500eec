"""The graph behind a loss: which leaf tensors it reaches, how large it is, and whether it outlives its step."""

from __future__ import annotations

import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

LIMIT = 200_000  # nodes; a larger graph is walked no further
_KEY = "gradlint"


class Reach(NamedTuple):
    """What lies behind the tensors on which backward is called."""

    leaves: tuple[Tensor, ...]  # in the order in which they are met, nearest to the loss first
    nodes: int
    old: int  # the number of the earliest earlier backward whose loss is part of this graph; 0 for none
    functions: tuple[type, ...]  # the user's own autograd Functions
    whole: bool  # whether the walk came to its end


def reach(roots: Iterable[Tensor], number: int = 0) -> Reach:
    """Walk the graph behind `roots`; about a microsecond for each node."""
    leaves: list[Tensor] = []
    functions: list[type] = []
    todo: deque[Any] = deque()
    seen: set[Any] = set()
    old = 0
    for root in roots:
        if root.grad_fn is None:
            if root.requires_grad:
                leaves.append(root)
        elif root.grad_fn not in seen:
            seen.add(root.grad_fn)
            todo.append(root.grad_fn)
    while todo and len(seen) < LIMIT:
        node = todo.popleft()
        variable = getattr(node, "variable", None)
        if variable is not None:
            leaves.append(variable)
            continue
        kind = type(node)
        if kind.__module__ != "torch.autograd" and (owner := getattr(node, "_forward_cls", None)) is not None:
            functions.append(owner)
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                todo.append(following)
    return Reach(tuple(leaves), len(seen), old, tuple(dict.fromkeys(functions)), not todo)


class _Canary:
    """Lives exactly as long as the node of the graph that holds it."""

    __slots__ = ("__weakref__", "number")

    def __init__(self, number: int) -> None:
        self.number = number


class Canaries:
    """Which of the latest losses' graphs are still in memory.

    A node of the graph keeps its `metadata` as long as it lives, whoever holds it, so a small object in there tells
    when the graph of a loss is gone.
    """

    def __init__(self, most: int = 64) -> None:
        self._alive: deque[weakref.ref[_Canary]] = deque(maxlen=most)

    def mark(self, root: Tensor, number: int) -> int:
        """Put one into the graph of `root`; the number of the backward that marked it before, or 0."""
        node = root.grad_fn
        if node is None:
            return 0
        there = node.metadata.get(_KEY)
        if there is not None:
            return int(there.number)
        canary = node.metadata[_KEY] = _Canary(number)
        self._alive.append(weakref.ref(canary))
        return 0

    def alive(self) -> int:
        """How many of the latest graphs, without the newest, are still held by somebody."""
        return sum(ref() is not None for ref in list(self._alive)[:-1])

    def carried(self, root: Tensor, number: int) -> int:
        """The number of an earlier backward whose loss is a direct part of this sum; 0 if there is none."""
        node, deep = root.grad_fn, 0
        todo = [node] if node is not None else []
        while todo and deep < 12:
            deep += 1
            node = todo.pop()
            there = node.metadata.get(_KEY)
            if there is not None and there.number < number:
                return int(there.number)
            todo += [following for following, _ in node.next_functions if following is not None]
        return 0

    def clear(self) -> None:
        """Take them out again; those whose graphs are still held."""
        for ref in self._alive:
            canary = ref()
            if canary is not None:
                canary.number = 0
        self._alive.clear()
