"""Terms of a loss that are made of gradients which torch was not asked to record: they train nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradcheck_lint.facts.reach import reaching, terms
from gradcheck_lint.laws.answer import NO
from gradcheck_lint.source import events as ev
from gradcheck_lint.source import limits
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source.effort import spend
from gradcheck_lint.source.natures import LossScaled
from gradcheck_lint.source.operations import How, Operation
from gradcheck_lint.source.values import Constant, Items, Thing, Value, options


class Unrecorded(NamedTuple):
    """A term of the loss of a backward, and the `torch.autograd.grad` whose gradients are all that it has.

    `sure` unless something may give it a graph after all.
    """

    backward: ev.Backward
    grad: Operation
    sure: bool


def unrecorded(timeline: tl.Timeline) -> Iterator[Unrecorded]:
    reach = reaching(timeline)
    told: set[int] = set()
    for event in timeline.events(ev.Backward):
        found = terms(event.subject)
        if len(found) < 2 or reach.of(event.subject).grad is NO:
            continue  # backward is refused, which is another mistake
        for term in found:
            given = reach.of(term.value)
            if given.grad is not NO or given.cuts:
                continue
            for made in operations(term.value):
                if made.how is not How.FUNCTION or made.name != "torch.autograd.grad" or made.place is None:
                    continue
                if len(made.args) > 2 or "create_graph" in (made.keywords or {}) or "**" in (made.keywords or {}):
                    continue
                if id(made.place.node) not in told:
                    told.add(id(made.place.node))
                    sure = given.certain and not timeline.cut
                    yield Unrecorded(event, made, sure)


def operations(value: Value | None) -> Iterator[Operation]:
    """The operations that a value came of, nearest first, as many as are looked at."""
    for one in came_of(value):
        made = one.made if isinstance(one, Thing) else None
        while made is not None:
            yield made
            made = made.before


def came_of(value: Value | None) -> Iterator[Value]:
    """The values that a value came of, and itself, nearest first, as many as are looked at."""
    todo = list(options(value))
    seen: set[int] = set()
    while todo and len(seen) < limits.WAY:
        one = todo.pop()
        spend(2)
        if id(one) in seen or isinstance(one, Constant):
            continue
        seen.add(id(one))
        yield one
        if isinstance(one, Items):
            todo += [o for item in one.items[: limits.ALTERNATIVES] for o in options(item)]
        elif isinstance(one, Thing):
            if isinstance(one.what, LossScaled):
                todo += options(one.what.of)
            if one.parent is not None:
                todo.append(one.parent[0])
            made = one.made
            while made is not None:
                given = [made.base, made.inner, *made.args, *(made.keywords or {}).values()]
                todo += [o for g in given for o in options(g)]
                made = made.before
