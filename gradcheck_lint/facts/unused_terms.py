"""Losses that are computed beside the one that goes backward, and that nobody reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from gradcheck_lint.facts import query, unread
from gradcheck_lint.facts.penalties import came_of
from gradcheck_lint.facts.reach import reaching
from gradcheck_lint.laws.answer import NO, YES
from gradcheck_lint.source import events as ev
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source import tree
from gradcheck_lint.source.operations import How
from gradcheck_lint.source.values import Thing, Value

_FUNCTIONS = frozenset({"cross_entropy", "binary_cross_entropy", "binary_cross_entropy_with_logits", "kl_div"})


class Unused(NamedTuple):
    """An assignment of a loss to a name that nobody reads, and a backward in the same function."""

    event: ev.Assign
    name: str
    backward: ev.Backward
    sure: bool


def unused(timeline: tl.Timeline) -> Iterator[Unused]:
    backs = list(timeline.located(ev.Backward))
    reach = reaching(timeline)
    told: set[int] = set()
    for event, around in timeline.located(ev.Assign) if backs else ():
        target = event.target
        if not isinstance(target, tree.Name) or target.id.startswith("_") or id(target) in told:
            continue
        if not _is_loss(event.value) or reach.of(event.value).grad is NO:
            continue
        beside = [b for b, a in backs if _as_often(event, around, b, a) and not query.exclusive(a, around)]
        if not beside or any(one is event.value for back in beside for one in came_of(back.subject)):
            continue
        if not unread.never_read(timeline, event, target.id):
            continue
        told.add(id(target))
        found = reach.of(event.value)
        sure = (found.grad is YES or bool(found.met)) and not unread.read_by_name(timeline, event)
        yield Unused(event, target.id, beside[0], sure)


def _as_often(event: ev.Assign, around: Sequence[tl.Part], back: ev.Backward, home: Sequence[tl.Part]) -> bool:
    """Whether a backward runs whenever an assignment does: then what is assigned could be a term of its loss.

    What a module computes after its training is for whoever reads the module.
    """
    if back.function is not event.function:
        return False
    turns = query.loops(around)
    return turns[-1] in home if turns else event.function is not None and not query.loops(home)


def _is_loss(value: Value) -> bool:
    """Whether a value is what a criterion of torch gives."""
    made = value.made if isinstance(value, Thing) else None
    if made is None:
        return False
    if made.how is How.FUNCTION and made.name.startswith("torch.nn.functional."):
        name = made.name.rpartition(".")[2]
        return name in _FUNCTIONS or name.endswith("_loss")
    if made.how is How.CALL and isinstance(made.base, Thing):
        return made.base.class_name.startswith("torch.nn.") and made.base.class_name.endswith("Loss")
    return False
