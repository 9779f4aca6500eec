"""Optimizers that an object of the project wraps, and that are stepped past it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradcheck_lint.facts import query
from gradcheck_lint.source import events as ev
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source import tree
from gradcheck_lint.source.natures import Optimizer
from gradcheck_lint.source.values import ClassValue, FunctionValue, Thing, only


class Past(NamedTuple):
    """A `step` of the optimizer that `wrapper` holds, whose own method would step it and do more."""

    step: ev.Step
    wrapper: Thing
    method: FunctionValue


def stepped_past(timeline: tl.Timeline) -> Iterator[Past]:
    """The steps in loops that go past the one object that wraps the optimizer, whose own `step` nothing calls."""
    if not timeline.has(ev.Step) or not timeline.has(ev.SetAttribute) or timeline.hooked or timeline.cut:
        return
    steps = list(timeline.located(ev.Step))
    for event in timeline.events(ev.SetAttribute):
        inner, wrapper = only(event.value, Optimizer), event.subject
        method = _step_of(wrapper, event.attr) if inner is not None and isinstance(wrapper, Thing) else None
        if inner is None or method is None or inner is wrapper or not isinstance(wrapper, Thing):
            continue
        mine = [(e, a) for e, a in steps if e.concerns(inner)]
        if any(isinstance(p, tl.Call) and _of(p.function, wrapper) for _, a in mine for p in a):
            continue  # some method of its own does step
        for step, around in mine:
            if query.loops(around) and not _of(step.function, wrapper):
                yield Past(step, wrapper, method)
                break


def _step_of(wrapper: Thing, attribute: str) -> FunctionValue | None:
    """The method `step` of an object, without arguments, that steps what an attribute holds and does more."""
    if not isinstance(wrapper.cls, ClassValue):
        return None
    method = wrapper.cls.member("step")
    if not isinstance(method, FunctionValue) or query.goes_backward(method.function):
        return None
    needed = [p for p in method.function.parameters[1:] if p.default is None and not p.star]
    body = method.function.body
    called = [
        n for n in tree.walk_block(body) if isinstance(n, tree.Call) and tree.dotted(n.func) == f"self.{attribute}.step"
    ]
    only_calls = [s.value for s in body if isinstance(s, tree.Evaluate)]
    others = len(body) > len(only_calls) or any(isinstance(v, tree.Call) and v not in called for v in only_calls)
    return method if called and others and not needed else None


def _of(function: tree.Function | None, wrapper: Thing) -> bool:
    """Whether a function is a method of an object."""
    cls = wrapper.cls
    return isinstance(cls, ClassValue) and any(
        isinstance(member, FunctionValue) and member.function is function
        for base in cls.lineage()
        if isinstance(base, ClassValue)
        for member in base.members.values()
    )
