"""Which losses a GradScaler has multiplied: the graph of each is marked, and looked for when backward is called."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

_KEY = "gradlint-scaled"
NEAR = 500  # nodes of the graph that are looked at; a scaling lies next to the loss


def mark_scaled(result: Any) -> None:
    """`result` came out of `scaler.scale`: a tensor, or some of them."""
    if isinstance(result, (list, tuple)):
        for item in result:
            mark_scaled(item)
    elif getattr(result, "grad_fn", None) is not None:
        result.grad_fn.metadata[_KEY] = True


def is_scaled(roots: Sequence[Tensor]) -> bool:
    """Whether one of these is what a scaler made, itself or after one more operation."""
    nodes: list[Any] = [root.grad_fn for root in roots if root.grad_fn is not None]
    nodes += [following for node in nodes for following, _ in node.next_functions if following is not None]
    return any(_KEY in node.metadata for node in nodes)


def scaled(roots: Sequence[Tensor]) -> bool:
    """Whether what backward is called on was scaled, or is made of something that was."""
    todo: deque[Any] = deque(root.grad_fn for root in roots if root.grad_fn is not None)
    seen = set(todo)
    while todo and len(seen) < NEAR:
        node = todo.popleft()
        if _KEY in node.metadata:
            return True
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                todo.append(following)
    return bool(todo)  # too large a graph to be sure that it was not
