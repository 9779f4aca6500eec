"""Whether an object is a tensor for certain: by how it was made, never by what it is called."""

from __future__ import annotations

import re

from gradcheck_lint.laws.answer import MAYBE, NO, YES, Answer
from gradcheck_lint.source.deps import passes
from gradcheck_lint.source.events import Backward
from gradcheck_lint.source.natures import Data, Grad, Opaque, Parameters, Tensor, chained, nature
from gradcheck_lint.source.timeline import Timeline
from gradcheck_lint.source.values import Constant, Items, Thing, Value, options, things

_OF_TORCH = re.compile(
    r"torch\.(?!load$|device$|Generator$|Size$|compile$|dtype$|export$|get_|is_|set_|use_|no_grad$)\w+"
)
_FUNCTIONAL = re.compile(r"torch\.nn\.functional\.\w+|torch\.(?:linalg|fft|special)\.\w+")


def is_tensor(value: Value | None) -> Answer:
    """Whether all that a value may be are tensors; MAYBE for what a network or code that was not seen has given."""
    found = [_one(option) for option in options(value) if not (isinstance(option, Constant) and option.value is None)]
    if not found or NO in found:
        return NO
    return MAYBE if MAYBE in found else YES


def goes_backward(timeline: Timeline, value: Value | None) -> bool:
    """Whether `.backward()` is called on what a value may be: of what a network gives, that is a tensor."""
    mine = things(value)
    return any(not back.engine and any(back.concerns(thing) for thing in mine) for back in timeline.events(Backward))


def _one(value: Value) -> Answer:
    if not isinstance(value, Thing):
        return NO
    if isinstance(value.what, Tensor):
        of = value.what.element_of
        return YES if of is None or _of_parameters(of) else NO
    if isinstance(value.what, (Grad, Data)):
        owner = value.parent[0] if value.parent is not None else None
        return YES if owner is not None and isinstance(owner.what, (Tensor, Grad, Data)) else MAYBE
    if not isinstance(value.what, Opaque):
        return NO
    if _OF_TORCH.fullmatch(value.origin) or _FUNCTIONAL.fullmatch(value.origin):
        return YES
    return MAYBE if passes(value) else NO


def _of_parameters(value: Value) -> bool:
    """Whether what is gone over holds parameters: of iterables that were put together, each of them does."""
    parts, given = chained(value), nature(value, Parameters)
    if parts is None:
        return given is None or given.of is not None
    return bool(parts) and all(_holds_tensors(part) for part in parts)


def _holds_tensors(value: Value) -> bool:
    if isinstance(value, Items):
        return bool(value.items) and all(is_tensor(item) is YES for item in value.items)
    return nature(value, Parameters) is not None and _of_parameters(value)
