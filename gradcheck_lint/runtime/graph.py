"""The graph behind a loss: which leaf tensors it reaches, how large it is, and whether it outlives its step."""

from __future__ import annotations

import math
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from torch import Tensor

LIMIT = 200_000  # nodes; a larger graph is walked no further
_KEY = "gradlint"
_LEAF = "AccumulateGrad"
_SUMS = ("Add", "Sub", "RSub", "Neg", "Mul", "Div")  # keep a number a number
_JOINS = ("Stack", "Cat", "Unsqueeze", "Squeeze", "View", "Reshape", "ReshapeAlias")
_TOTALS = ("Sum", "Mean")
_FLAT = ("Round", "Floor", "Ceil", "Trunc", "Sign", "Bernoulli", "Poisson", "Normal")
_PERHAPS_FLAT = frozenset({"DivBackward2", "DivBackward3"})  # those that may be told to round
_FLAT_NAMES = frozenset(f"{name}Backward{number}" for name in _FLAT for number in range(4)) | _PERHAPS_FLAT


class Reach(NamedTuple):
    """What lies behind the tensors on which backward is called."""

    leaves: tuple[Tensor, ...]  # in the order in which they are met, nearest to the loss first
    nodes: int
    functions: tuple[Any, ...]  # the nodes of autograd Functions that are written in Python
    flat: tuple[Any, ...]  # the nodes whose derivative is zero everywhere
    whole: bool  # whether the walk came to its end


def reach(roots: Iterable[Tensor], avoiding: Collection[Any] = ()) -> Reach:
    """Walk the graph behind `roots`, and not on from those nodes; about a microsecond for each node."""
    roots = list(roots)
    leaves = [root for root in roots if root.grad_fn is None and root.requires_grad]
    return _walk(dict.fromkeys(root.grad_fn for root in roots if root.grad_fn is not None), leaves, avoiding)


def behind(node: Any) -> tuple[Tensor, ...]:
    """The leaves that lie behind a node."""
    return _walk(dict.fromkeys(following for following, _ in node.next_functions if following is not None)).leaves


def _walk(nodes: Iterable[Any], given: Iterable[Tensor] = (), avoiding: Collection[Any] = ()) -> Reach:
    """Walk the graph from these nodes, each given once; the leaves that are known already come first."""
    leaves = list(given)
    functions: list[Any] = []
    flat: list[Any] = []
    todo: deque[Any] = deque(nodes)
    seen: set[Any] = set(todo)
    while todo and len(seen) < LIMIT:
        node = todo.popleft()
        name = type(node).__name__
        if name == _LEAF:
            leaves.append(node.variable)
            continue
        if hasattr(type(node), "_forward_cls"):
            functions.append(node)
        elif name in _FLAT_NAMES and (name not in _PERHAPS_FLAT or node._saved_rounding_mode is not None):
            flat.append(node)
        if node in avoiding:
            continue
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                todo.append(following)
    return Reach(tuple(leaves), len(seen), tuple(functions), tuple(flat), not todo)


def uses(roots: Iterable[Tensor], leaf: Tensor) -> set[str]:
    """What the graph does with a leaf, where it is used as it is; each as `kind` has it."""
    found: set[str] = set()
    todo = [root.grad_fn for root in roots if root.grad_fn is not None]
    seen = set(todo)
    while todo and len(seen) < LIMIT:
        node = todo.pop()
        for following, _ in node.next_functions:
            if following is None:
                continue
            if getattr(following, "variable", None) is leaf:
                found.add(kind(node))
            elif following not in seen:
                seen.add(following)
                todo.append(following)
    return found


def kind(node: Any) -> str:
    """What a node of the graph does: "Add" for AddBackward0."""
    return type(node).__name__.partition("Backward")[0]


def terms(root: Tensor, most: int = 12) -> list[Any]:
    """The nodes of the numbers of which a loss is the sum, itself first; at most so many are looked at."""
    found: list[Any] = []
    todo: deque[Any] = deque([root.grad_fn])
    while todo and most:
        most -= 1
        node = todo.popleft()
        does = kind(node)
        following = [n for n, _ in node.next_functions if n is not None and type(n).__name__ != _LEAF]
        if does not in _JOINS:
            if not _is_number(node):
                continue
            found.append(node)
        if does in _SUMS or does in _JOINS or (does in _TOTALS and all(kind(n) in _JOINS for n in following)):
            todo += following
    return found


def only_sums(root: Tensor, most: int = 8) -> tuple[Tensor, ...]:
    """The leaves of a graph that does nothing but add them up; () for every other graph.

    The gradient of such a leaf is the same whatever its values are, so it is no use to anybody.
    """
    leaves: list[Tensor] = []
    todo: list[Any] = [root.grad_fn]
    while todo:
        node = todo.pop()
        most -= 1
        if type(node).__name__ == _LEAF:
            leaves.append(node.variable)
            continue
        does = kind(node)
        following = [n for n, _ in node.next_functions if n is not None]
        sums = does in _JOINS or does in _TOTALS or (does in _SUMS and (does != "Mul" or len(following) == 1))
        if not sums or most <= 0:
            return ()
        todo += following
    return tuple(leaves)


def _is_number(node: Any) -> bool:
    """Whether the node has a single number as its result; True where torch does not tell."""
    about = getattr(node, "_input_metadata", None)
    return not about or math.prod(about[0].shape) == 1


class Canary:
    """Lives exactly as long as the nodes of the graph that hold it.

    `number` counts the backwards, `steps` are the steps of each optimizer that were done before, `freed` is whether
    that backward was the last that could use the graph, and `place` is where it was called.
    """

    __slots__ = ("__weakref__", "freed", "number", "place", "steps")

    def __init__(self, number: int, steps: tuple[int, ...], freed: bool, place: object) -> None:
        self.number = number
        self.steps = steps
        self.freed = freed
        self.place = place


def marked(node: Any) -> Canary | None:
    """The canary that is in this node, if one is."""
    found = node.metadata.get(_KEY)
    return found if found is not None and found.number else None


class Canaries:
    """Which of the latest losses' graphs are still in memory.

    A node of the graph keeps its `metadata` as long as it lives, whoever holds it, so a small object in there tells
    when the graph of a loss is gone.
    """

    def __init__(self, most: int = 64) -> None:
        self._latest: deque[weakref.ref[Canary]] = deque(maxlen=most)

    def touch(self, node: Any, number: int, steps: tuple[int, ...], *, freed: bool, place: object = None) -> None:
        """Put one into the node at the root of a graph, and look no further."""
        canary = node.metadata[_KEY] = Canary(number, steps, freed, place)
        self._latest.append(weakref.ref(canary))

    def mark(
        self, root: Tensor, number: int, steps: tuple[int, ...], *, freed: bool, place: object = None
    ) -> Canary | None:
        """Put one into the graph of `root`, before backward; the oldest one that was there already.

        One is there already if an earlier backward ran on this very loss, or on one that is a term of this sum.
        """
        found: Canary | None = None
        canary = Canary(number, steps, freed, place)
        for node in terms(root):
            there = marked(node)
            if there is None:
                node.metadata[_KEY] = canary
            elif found is None or there.number < found.number:
                found = there
        self._latest.append(weakref.ref(canary))
        return found

    def kept(self, steps: tuple[int, ...]) -> list[tuple[int, ...]]:
        """The steps, back from the last before these, whose graphs are in memory though nobody can use them.

        Each is given once, the newest first, until one comes whose graph is gone.
        """
        found: list[tuple[int, ...]] = []
        for ref in reversed(self._latest):
            canary = ref()
            if canary is None or not canary.freed:
                break
            if canary.steps != steps and canary.steps not in found[-1:]:
                found.append(canary.steps)
        return found

    def clear(self) -> None:
        """Those that are left count for nothing any more."""
        for ref in self._latest:
            canary = ref()
            if canary is not None:
                canary.number = 0
        self._latest.clear()
