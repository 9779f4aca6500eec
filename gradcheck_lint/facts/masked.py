"""Missing targets, which are NaN, that are masked after the operation that they have spoiled the gradient of.

What is masked gets a gradient of zero, and zero times NaN is NaN: so it goes on through each operation whose derivative
has the target in it. Those whose derivative has not, a difference or its absolute value, let the zero pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradcheck_lint.facts.penalties import came_of, operations
from gradcheck_lint.source import events as ev
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source.natures import Tensor
from gradcheck_lint.source.operations import How, Operation
from gradcheck_lint.source.place import Place
from gradcheck_lint.source.values import Constant, Thing, Value, only, options

_NAMES = ("mse_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy_with_logits")
_FUNCTIONS = frozenset(f"torch.nn.functional.{name}" for name in _NAMES)
_CLASSES = frozenset(f"torch.nn.{name}" for name in ("MSELoss", "SmoothL1Loss", "HuberLoss", "BCEWithLogitsLoss"))
_FINITE = frozenset({"torch.isfinite", "isfinite"})
_ISNAN = frozenset({"torch.isnan", "isnan"})
_NOT = frozenset({"~", "torch.logical_not", "logical_not"})


class MaskedLate(NamedTuple):
    """Where a mask comes too late, the operation that the targets have spoiled, and the backward through both."""

    place: Place
    spoiled: Operation
    backward: ev.Backward


def masked_late(timeline: tl.Timeline) -> Iterator[MaskedLate]:
    told: set[int] = set()
    selected = {id(event.subject): event for event in timeline.events(ev.Select)}
    for back in timeline.events(ev.Backward):
        for value in came_of(back.subject):
            found = _masking(value, selected)
            if found is None or id(found[2].node) in told:
                continue
            whole, target, place = found
            if target.made is not None and target.made.how is How.WRITE:
                continue  # something was written into it: the NaN may be gone
            if isinstance(target.what, Tensor) and target.what.written:
                continue
            spoiled = next((made for made in operations(whole) if _spoiled(made, target)), None)
            if spoiled is not None:
                told.add(id(place.node))
                yield MaskedLate(place, spoiled, back)


def _masking(value: Value, selected: dict[int, ev.Select]) -> tuple[Value, Thing, Place] | None:
    """What is masked, the tensor that the mask tells the NaN of, and where."""
    event = selected.get(id(value))
    if event is not None:
        target = _numbers_of(event.mask)
        return (event.of, target, event.place) if target is not None else None
    made = value.made if isinstance(value, Thing) else None
    if made is None or made.place is None:
        return None
    name = made.name.rpartition(".")[2]
    given = [*([made.base] if made.base is not None else ()), *made.args]
    if name == "where" and len(given) == 3:
        mask, whole = (given[1], given[0]) if made.how is How.METHOD else (given[0], given[1])
    elif name == "masked_select" and len(given) == 2:
        whole, mask = given
    else:
        return None
    target = _numbers_of(mask)
    return (whole, target, made.place) if target is not None else None


def _numbers_of(mask: Value) -> Thing | None:
    """The tensor of which a mask tells where it is a number."""
    made = mask.made if isinstance(mask, Thing) else None
    if made is None:
        return None
    given = [*([made.base] if made.base is not None else ()), *made.args]
    if made.name in _FINITE and given:
        return only(given[0])
    if made.name == "==" and len(given) == 2 and given[0] is given[1]:
        return only(given[0])
    inner = given[0] if made.name in _NOT and given else None
    if not isinstance(inner, Thing) or inner.made is None or inner.made.name not in _ISNAN:
        return None
    of = inner.made.base if inner.made.base is not None else inner.made.args[0] if inner.made.args else None
    return only(of)


def _spoiled(made: Operation, target: Thing) -> bool:
    """Whether the derivative of an operation has the target in it, which it was given as it is."""
    base = made.base if isinstance(made.base, Thing) else None
    if made.how is How.FUNCTION and made.name in _FUNCTIONS:
        return _given(made.args, target)
    if made.how is How.CALL and base is not None and base.class_name in _CLASSES:
        return _given(made.args, target)
    difference: Value | None = None
    if made.how is How.OPERATOR and made.name == "**" and _power(made.args[1]):
        difference = made.args[0]
    elif made.how is How.METHOD and (
        made.name == "square" or (made.name == "pow" and made.args and _power(made.args[0]))
    ):
        difference = made.base
    elif made.how is How.OPERATOR and made.name == "*" and made.args[0] is made.args[1]:
        difference = made.args[0]
    inner = difference.made if isinstance(difference, Thing) else None
    return inner is not None and inner.how is How.OPERATOR and inner.name == "-" and _given(inner.args, target)


def _given(values: object, target: Thing) -> bool:
    return isinstance(values, (list, tuple)) and any(option is target for v in values for option in options(v))


def _power(value: Value) -> bool:
    return isinstance(value, Constant) and value.value in (2, 2.0, 3, 4)
