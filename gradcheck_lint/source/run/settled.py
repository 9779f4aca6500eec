"""Whether running the body of a loop once more would meet nothing new.

What a name stands for at the head of a loop is what it stood for before, or what the body has left in it. Each run of
the body makes its objects anew, so identity never settles. What counts of those is whether an object of the same
nature, made at the same place, whose graph goes through the same calls of modules, was met there before. What is older
than the loop is told by its identity: two optimizers that one helper has built are two.
"""

from __future__ import annotations

from collections.abc import Hashable

from gradcheck_lint.source.deps import passes
from gradcheck_lint.source.natures import Opaque
from gradcheck_lint.source.values import Choice, Constant, FunctionValue, Items, Table, Thing, Value, options

_PLAIN = "plain"  # nothing whose identity or graph matters, nor a list of such: how many there are changes nothing
_NOWHERE: frozenset[int] = frozenset()
_DEPTH = 4  # containers inside of one another
_LOOKED_AT = 16  # items of each: what comes after them is of their kind


def settled(before: Value, after: Value, start: int) -> bool:
    """Whether all that a name may stand for `after` a run of the body is like something that it stood for `before`.

    `start` is the serial at which the loop began: what is made in it has a higher one.
    """
    old = options(before)
    fresh = [option for option in options(after) if not any(option is one for one in old)]
    if not fresh:
        return True
    known = {_kind(option, start, _DEPTH) for option in old}
    return all(_kind(option, start, _DEPTH) in known for option in fresh)


def sites(value: Value) -> frozenset[int]:
    """The calls of modules that the graph of a value goes through."""
    return frozenset(id(t.place.node) for t in passes(value) if t.place is not None)


def _kind(value: Value, start: int, depth: int) -> Hashable:
    """What two values have in common that are alike."""
    if isinstance(value, Constant):
        return _PLAIN
    if isinstance(value, Thing):
        through = sites(value) if value.deps else _NOWHERE
        if isinstance(value.what, Opaque):
            return (Opaque, through) if through or value.values else _PLAIN
        here = value.place is not None and value.serial >= start
        return type(value.what), value.place if here else value, through  # places are equal by their nodes
    if not depth:
        return value
    if isinstance(value, (Items, Table)):
        inner = list(value.items if isinstance(value, Items) else value.entries.values())[:_LOOKED_AT]
        if inner and all(isinstance(item, Constant) for item in inner):
            return type(value), frozenset(item.value for item in inner if isinstance(item, Constant))  # for an `in`
        kinds = frozenset(_kind(item, start, depth - 1) for item in inner)
        return _PLAIN if kinds <= {_PLAIN} else (type(value), kinds)
    if isinstance(value, Choice):
        return frozenset(_kind(option, start, depth - 1) for option in value.options)
    if isinstance(value, FunctionValue):
        return id(value.function), _kind(value.receiver, start, depth - 1) if value.receiver is not None else None
    return value
