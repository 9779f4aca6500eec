"""Losses that are new tensors with the value of another and none of its graph: backward on them reaches nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gradcheck_lint.source.deps import passes
from gradcheck_lint.source.events import Backward, Build, Step
from gradcheck_lint.source.holding import held_by
from gradcheck_lint.source.natures import Optimizer, Tensor, made_by, requires_grad, source_of
from gradcheck_lint.source.values import Thing, only, things

if TYPE_CHECKING:
    from gradcheck_lint.source.breach import Breach
    from gradcheck_lint.source.events import Event

_MAKES = frozenset({"tensor", "as_tensor", "Tensor", "FloatTensor", "Variable"})
"""Functions that copy the value of a loss that they are given."""
_CHAIN = 50  # computations between the copy and what backward is called on


class Rebuilt(NamedTuple):
    """A backward on such a tensor, the tensor, and whether backward runs on a sum of it."""

    backward: Event
    leaf: Thing
    summed: bool


def before(breach: Breach) -> Rebuilt | None:
    """The backward that a step without gradients relies on, if it is one of those."""
    events = list(breach.timeline.events(Backward, Step))
    at = next(n for n, event in enumerate(events) if event is breach.event)
    if at == 0 or not isinstance(events[at - 1], Backward):
        return None
    backward = events[at - 1]
    whole = only(backward.subject, Tensor)
    leaf, left = whole, _CHAIN
    while leaf is not None and left and source_of(leaf) is not None:
        leaf, left = source_of(leaf), left - 1
    if leaf is None or made_by(leaf) not in _MAKES or requires_grad(leaf) is not True:
        return None
    if leaf.place is None or not leaf.certain or passes(whole):
        return None
    optimizers = [o for e in breach.timeline.events(Build) for o in things(e.subject, Optimizer)]
    if any(leaf in held_by(optimizer).tensors for optimizer in optimizers):
        return None
    return Rebuilt(backward, leaf, leaf is not whole)
