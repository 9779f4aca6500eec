"""What a value is where paths meet: one of several, or an opaque thing that may be any of them."""

from __future__ import annotations

from collections.abc import Sequence

from gradcheck_lint.source import operations
from gradcheck_lint.source.amounts import Reckoned
from gradcheck_lint.source.deps import depends
from gradcheck_lint.source.natures import LossScaled, Opaque, Pass, StateDict
from gradcheck_lint.source.values import (
    Choice,
    Constant,
    External,
    FunctionValue,
    Items,
    Partial,
    Table,
    Thing,
    Value,
    options,
)

_MOST = 6


def join(a: Value, b: Value) -> Value:
    """The value after two paths meet."""
    if a is b:
        return a
    found: list[Value] = []
    for value in (*options(a), *options(b)):
        if not any(same(value, other) for other in found):
            found.append(value)
    if len(found) == 1:
        return found[0]
    if len(found) > _MOST or all(isinstance(v, (Constant, Thing)) and not tracked(v) for v in found):
        return merged(found)
    return Choice(tuple(found))


def merged(values: Sequence[Value]) -> Thing:
    """An opaque thing that is one of the values."""
    label = ""
    for value in values:
        if isinstance(value, Thing) and value.label:
            label = value.label
    kept = tuple(value for value in values if _holds(value))[:8]
    made = Thing(Opaque(), label, deps=depends(Choice(tuple(values))), certain=False, values=kept)
    made.made = operations.join(values)
    return made


def _holds(value: Value) -> bool:
    """Whether something may be reached through a value, so that it is kept where values are merged."""
    if isinstance(value, Thing):
        return not isinstance(value.what, (Opaque, Pass, LossScaled, StateDict)) or bool(value.values)
    return isinstance(value, (FunctionValue, Partial, Items, Table))


def same(a: Value, b: Value) -> bool:
    if a is b:
        return True
    if isinstance(a, Reckoned) or isinstance(b, Reckoned):
        return isinstance(a, Reckoned) and isinstance(b, Reckoned) and a.via == b.via
    if isinstance(a, Constant) and isinstance(b, Constant):
        return type(a.value) is type(b.value) and a.value == b.value
    if isinstance(a, External) and isinstance(b, External):
        return a.name == b.name
    if isinstance(a, FunctionValue) and isinstance(b, FunctionValue):
        return a.function is b.function and a.receiver is b.receiver
    return False


def tracked(value: Value) -> bool:
    """Whether it matters which object this is."""
    if isinstance(value, Thing):
        return not isinstance(value.what, Opaque)
    return not isinstance(value, Constant)
