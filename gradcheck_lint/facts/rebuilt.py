"""Losses that are new tensors with the value of another and none of its graph: backward on them reaches nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gradcheck_lint.facts.reach import reaching, terms
from gradcheck_lint.source.deps import passes
from gradcheck_lint.source.events import Backward, Build, Step
from gradcheck_lint.source.holding import held_by
from gradcheck_lint.source.natures import Optimizer, Tensor, made_by, requires_grad, source_of
from gradcheck_lint.source.operations import How
from gradcheck_lint.source.values import Thing, Value, only, things

if TYPE_CHECKING:
    from gradcheck_lint.source.breach import Breach
    from gradcheck_lint.source.events import Event
    from gradcheck_lint.source.place import Place
    from gradcheck_lint.source.timeline import Timeline

_MAKES = frozenset({"tensor", "as_tensor", "Tensor", "FloatTensor", "Variable"})
"""Functions that copy the value of a loss that they are given."""
_CHAIN = 50  # computations between the copy and what backward is called on


class Copied(NamedTuple):
    """A backward on a new tensor that is made of the values of an output, which is made at `place`."""

    backward: Event
    place: Place
    certain: bool


def from_values(timeline: Timeline) -> list[Copied]:
    """The backwards on new leaf tensors that hold nothing but the values of something that has a graph, or had one."""
    walk, found = reaching(timeline), []
    for event in timeline.events(Backward):
        if "try" in event.context:
            continue
        leaves = [leaf for term in terms(event.subject) for leaf in _leaf(term.value)]
        met = walk.of(event.subject).met
        if not leaves or len(leaves) != len(met) or {id(leaf) for leaf in leaves} != {id(thing) for thing in met}:
            continue
        given = walk.all_of([value for leaf in leaves for value in (leaf.args.all() if leaf.args is not None else ())])
        made = [leaf.place for leaf in leaves if leaf.place is not None]
        if made and all(leaf.certain for leaf in leaves) and (given.met or any(cut.sure for cut in given.cuts)):
            found.append(Copied(event, made[0], True))
    return found


def _leaf(value: Value) -> list[Thing]:
    """The new leaf that a value is, or is a plain sum or mean of."""
    thing = only(value, Tensor)
    left = _CHAIN
    while thing is not None and left and thing.made is not None and thing.made.how is How.METHOD:
        if thing.made.name not in ("sum", "mean", "squeeze", "view", "reshape", "to", "cuda"):
            break
        thing, left = only(thing.made.base, Tensor), left - 1
    if thing is None or made_by(thing) not in _MAKES or requires_grad(thing) is not True:
        return []
    return [thing]


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
