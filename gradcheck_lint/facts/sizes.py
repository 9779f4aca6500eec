"""Shapes that are spelt out: the sizes that a function is given, one by one or in one list."""

from __future__ import annotations

from collections.abc import Sequence

from gradcheck_lint.source.effort import spend
from gradcheck_lint.source.operations import How
from gradcheck_lint.source.values import Constant, Items, Thing, Value

Shape = tuple[int | None, ...]
"""The sizes of all dimensions; None is one that is not known, and most likely that of the batch."""


def spelt(values: Sequence[Value]) -> Shape | None:
    """The shape that some sizes spell, given one by one or in one list."""
    if len(values) == 1 and isinstance(values[0], Items):
        if not values[0].complete:
            return None
        values = values[0].items
    spend(len(values))
    found: list[int | None] = []
    for value in values:
        if isinstance(value, Items) or (isinstance(value, Thing) and _several(value)):
            return None
        size = value.value if isinstance(value, Constant) else None
        found.append(size if type(size) is int and size > 0 else None)
    return tuple(found) if found else None


def _several(value: Thing) -> bool:
    """Whether a value may be several sizes at once, as `x.shape` is."""
    if value.parent is not None and value.parent[1].startswith("["):
        return False  # one of the sizes
    if value.origin == "builtins.len":
        return False
    made = value.made
    return made is None or made.how is not How.METHOD or made.name != "size" or not made.args
