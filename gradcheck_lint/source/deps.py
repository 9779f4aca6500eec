"""What took part in making a value: modules, optimizers, and the runs of modules through which a backward goes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from gradcheck_lint.source import limits
from gradcheck_lint.source.effort import spend
from gradcheck_lint.source.natures import Module, Optimizer, Pass, Scaler
from gradcheck_lint.source.values import Choice, Constant, External, FunctionValue, Items, Table, Thing, Value

_NOTHING: frozenset[Thing] = frozenset()


_Known = dict[tuple[int, int], frozenset[Thing]]


def depends(*values: Value | None) -> frozenset[Thing]:
    """All things that took part in making the values; of passes, only those that did so on every path."""
    found = _NOTHING
    known: _Known | None = None
    for value in values:
        if isinstance(value, Thing):
            found = united(found, _made_with(value))
        elif value is not None and not isinstance(value, (Constant, External)):
            known = {} if known is None else known
            found = united(found, _depends(value, 6, known))
    return found


def _made_with(thing: Thing) -> frozenset[Thing]:
    if isinstance(thing.what, (Module, Optimizer, Scaler)) and thing not in thing.deps:
        return united(thing.deps, frozenset((thing,)))
    return thing.deps


def _depends(value: Value, depth: int, known: _Known) -> frozenset[Thing]:
    """As `depends`, looking into containers no deeper than `depth`: one may hold itself."""
    if isinstance(value, Thing):
        return _made_with(value) if depth else _NOTHING
    inner: Sequence[Value] = ()
    if isinstance(value, Choice):
        inner = value.options
    elif isinstance(value, Items):
        inner = value.items[:8]
    elif isinstance(value, Table):
        inner = list(itertools.islice(value.entries.values(), 8))
    elif isinstance(value, FunctionValue) and value.receiver is not None:
        inner = (value.receiver,)
    if not inner or not depth:
        return _NOTHING
    found = known.get((id(value), depth))
    if found is None:
        spend(1)
        parts = [_depends(part, depth - 1, known) for part in inner]
        if isinstance(value, Choice):
            found = cut_off(united(*parts))
            found = united(
                found, frozenset(t for t in parts[0] if isinstance(t.what, Pass) and all(t in p for p in parts))
            )
        else:
            found = united(*parts)
        known[id(value), depth] = found
    return found


def united(*parts: frozenset[Thing]) -> frozenset[Thing]:
    """The things of all sets; the same object again where one of them holds all. Of very many, some are let go."""
    found = _NOTHING
    for part in parts:
        if part is found or (len(part) <= len(found) and (len(found) >= limits.DEPENDENCIES or part <= found)):
            continue
        if not found or found <= part:
            found = part
            continue
        found = found | part
        if len(found) > limits.DEPENDENCIES:
            found = frozenset(sorted(found, key=_weight)[: limits.DEPENDENCIES])
    return found


def _weight(thing: Thing) -> tuple[int, int]:
    """Optimizers are the last to be let go, then modules, and the oldest first of the rest: runs of modules."""
    rank = 0 if isinstance(thing.what, (Optimizer, Scaler)) else 1 if isinstance(thing.what, Module) else 2
    return rank, thing.serial


def passes(value: Value | None) -> frozenset[Thing]:
    """The runs of modules through which a backward on the value goes, as far as the code shows."""
    found = depends(value)
    spend(2 + len(found) // 16)
    kept = frozenset(t for t in found if isinstance(t.what, Pass))
    return found if len(kept) == len(found) else kept


def cut_off(deps: frozenset[Thing]) -> frozenset[Thing]:
    """What took part in making something, where it is not sure that backward goes through."""
    return (
        frozenset(t for t in deps if not isinstance(t.what, Pass))
        if any(isinstance(t.what, Pass) for t in deps)
        else deps
    )
