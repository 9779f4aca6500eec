"""A schedule that goes on to move an optimizer after another one, for the same parameters, has taken its place."""

from __future__ import annotations

import re

from gradcheck_lint.facts.order import after
from gradcheck_lint.laws.answer import YES
from gradcheck_lint.source import events as ev
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source.holding import shares
from gradcheck_lint.source.natures import Optimizer, Scheduler, moves
from gradcheck_lint.source.values import Thing, Value, only, things

_BY_HAND = re.compile(
    r"""\[["'](?:initial_)?lr["']\]\s*[-+*/]?=(?!=)|(?i:sched\w*)\.optimizer\s*=(?!=)"""
    r"""|\.param_groups(?:\[[^]\n]*\])?\s*=(?!=)|param_groups\b[^\n]*\.update\(|\b__dict__\b|\bvars\(|\bsetattr\("""
)
"""Code that carries the rate over or shares the groups, or may hand the schedule the new optimizer."""


def left_behind(timeline: tl.Timeline, event: ev.Schedule, optimizer: Thing) -> ev.BuildOptimizer | None:
    """The optimizer that is built in place of the one that a schedule moves: all later steps are its own.

    It takes the place where each step that may be one of the old optimizer may be one of the new one as well, as they
    are called by one name, or where the old one steps no more.
    """
    scheduler = only(event.subject, Scheduler)
    if scheduler is None or timeline.cut:
        return None
    rivals = [
        built
        for built in timeline.events(ev.BuildOptimizer)
        if built.subject is not optimizer
        and built.subject.serial >= scheduler.serial
        and built.subject.certain
        and shares(built.subject, optimizer) is YES
    ]
    if not rivals or _BY_HAND.search(timeline.home.text):
        return None
    if any(e.attr in ("optimizer", "param_groups") for e in timeline.events(ev.SetAttribute) if _may_be_of(e.subject)):
        return None  # whatever the schedule is called
    return next((built for built in rivals if _takes_over(timeline, built, event, optimizer)), None)


def _may_be_of(value: Value | None) -> bool:
    """Whether what gets an attribute may be a schedule or an optimizer: not a trainer that keeps its own."""
    thing = only(value)
    return thing is None or not thing.certain or isinstance(thing.what, (Scheduler, Optimizer))


def _takes_over(timeline: tl.Timeline, built: ev.BuildOptimizer, event: ev.Schedule, old: Thing) -> bool:
    """Whether the new one steps from then on, the old one does not, and no other schedule moves the new one."""
    new, steps, moved = built.subject, False, False
    for later in after(timeline, built):
        if later is built:
            break
        if isinstance(later, ev.Unknown) and (later.subject is None or later.concerns(new) or later.concerns(old)):
            return False
        if isinstance(later, ev.Build) and any(s is new for s in things(moves(later.subject), Optimizer)):
            return False
        if isinstance(later, ev.Step):
            if later.concerns(old) and not later.concerns(new):
                return False
            steps = steps or later.concerns(new)
        moved = moved or later is event
    return steps and moved
