"""Which modules are frozen where an optimizer is built."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.facts.order import before
from gradcheck_lint.laws.mode import Flag, never_trained
from gradcheck_lint.source import events as ev
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source.follow import Flow, States, Walk
from gradcheck_lint.source.holding import belongs
from gradcheck_lint.source.natures import Module, Opaque, Tensor, element_of
from gradcheck_lint.source.run.parts import filtered, may_change, walked_from
from gradcheck_lint.source.values import ClassValue, FunctionValue, Thing, contents, options, things

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradcheck_lint.source.values import Value


def frozen(timeline: tl.Timeline, built: ev.BuildOptimizer, module: Thing) -> bool:
    """Whether all parameters of a module are frozen at an event on every path, as far as the code shows."""
    if not any(e.value is False for e in timeline.events(ev.Freeze)):
        return False
    flags = _Path(timeline, built, module.core).flags
    return never_trained(flags, thawed=Flag.EARLY in flags and _other_methods(timeline, module.core))


def unfrozen_later(timeline: tl.Timeline, built: ev.BuildOptimizer, module: Thing) -> bool:
    """Whether the parameters of a module may be unfrozen after an event."""
    after = False
    for event, around in timeline.located():
        after = after or event is built
        again = after or any(type(step).__name__ == "Loop" for step in around)
        if not again:
            continue
        if isinstance(event, ev.Freeze) and event.value is not False and _may_thaw(event, module, ()):
            return True
        if isinstance(event, ev.Grow) and _may_grow(event, module, ()):
            return True
    return False


def left_frozen(timeline: tl.Timeline, built: ev.Event, part: Thing) -> bool:
    """Whether a part of a model was frozen before an event, and nothing in between can have thawed it."""
    frozen = False
    for event in before(timeline, built):
        if isinstance(event, ev.Freeze) and event.concerns(part):
            frozen = event.value is False
        elif isinstance(event, ev.Freeze) and event.value is not False:
            frozen = frozen and not _may_thaw(event, part.core, ())
        elif isinstance(event, ev.Grow):
            frozen = frozen and not _may_grow(event, part.core, ())
    return frozen


class _Path(Walk):
    """Whether one module is frozen, along every path up to an event.

    A part that is put into it may be one to train, and so may all of it be once code that was not seen has had it. What
    the constructor of the object freezes whose method is the entry point is EARLY: other methods may have been called
    in between.
    """

    def __init__(self, timeline: tl.Timeline, built: ev.BuildOptimizer, module: Thing) -> None:
        changes = timeline.events(ev.Freeze, ev.Build, ev.SetAttribute, ev.SetItem, ev.Register, ev.Grow)
        super().__init__(timeline, (built, *changes))
        self.built, self.module = built, module
        self.parts: Sequence[Thing] = built.parts.get(module.serial, ())
        self.flags: set[Flag] = set()
        made = timeline.tree.steps[:1] if timeline.owner is not None else []
        self.early = {id(event) for step in made if not isinstance(step, ev.Event) for event in tl.inside(step)}
        self.run(timeline.tree, frozenset({Flag.OPEN}))

    def loop(self, step: tl.Loop, states: States) -> Flow:
        """A loop that freezes goes over all that there is to freeze: after it, its body has run."""
        flow = super().loop(step, states)
        if len(step.body.steps) == 1 and isinstance(step.body.steps[0], ev.Freeze):
            return flow._replace(end=self.run(step.body, states).end)
        return flow

    def event(self, event: ev.Event, states: States) -> States:
        if event is self.built:
            self.flags |= states
        if isinstance(event, ev.Freeze) and event.value is False:
            now = Flag.EARLY if id(event) in self.early else Flag.FROZEN
            return frozenset({now}) if _reaches_all(event, self.module) else states
        return frozenset({Flag.OPEN}) if self.opens(event) else states

    def opens(self, event: ev.Event) -> bool:
        """Whether some parameter of the module may require grad after an event."""
        if isinstance(event, ev.Build):
            return event.concerns(self.module)
        if isinstance(event, ev.Freeze):
            return _may_thaw(event, self.module, self.parts)
        if isinstance(event, ev.Grow):
            return _may_grow(event, self.module, self.parts)
        if isinstance(event, ev.Register) and event.how == "buffer":
            return False
        if isinstance(event, ev.SetAttribute) and event.attr in _OF_TENSORS:
            return False
        if isinstance(event, (ev.SetAttribute, ev.SetItem, ev.Register)):
            value = event.value
            return any(
                _may_put(t, value, self.module, self.parts) for t in options(event.subject) if isinstance(t, Thing)
            )
        return False


_OF_TENSORS = frozenset({"requires_grad", "data", "grad"})


def _other_methods(timeline: tl.Timeline, module: Thing) -> bool:
    """Whether another method of the class than the entry point may thaw a module or put something into it."""
    names = [e.attr for e in timeline.events(ev.SetAttribute) if any(t.core is module for t in things(e.value))]
    for cls in timeline.owner.lineage() if timeline.owner is not None else ():
        for member in cls.members.values() if isinstance(cls, ClassValue) else ():
            if not isinstance(member, FunctionValue) or member.function in (timeline.entry, None):
                continue
            if member.function.name != "__init__" and any(may_change(member.function, name) for name in names):
                return True
    return False


def _may_put(target: Thing, value: Value | None, module: Thing, parts: Sequence[Thing]) -> bool:
    """Whether a value that is given a place in an object may be a part of a module then, with parameters of its own."""
    found = [t for t in contents(value) if isinstance(t, Thing)]
    if not found:
        return False  # a constant, a function
    if _within(target, module, parts):
        return True
    layer = any(isinstance(t.what, (Module, Tensor)) for t in found)
    return layer and isinstance(target.what, Opaque) and not target.root.core.certain


def _within(thing: Thing, module: Thing, parts: Sequence[Thing]) -> bool:
    """Whether a thing may be the module or anything in it."""
    walked = walked_from(thing)
    if thing.inside(module) or (walked is not None and _within(walked, module, parts)):
        return True
    above: Thing | None = thing
    while above is not None:
        if belongs(above, module):
            return True
        above = above.parent[0] if above.parent is not None else None
    if any(thing.inside(part) for part in parts):
        return True
    return bool({thing.core, thing.root.core} & module.deps) or (
        isinstance(thing.what, Opaque) and module in thing.deps
    )


def _may_grow(event: ev.Grow, module: Thing, parts: Sequence[Thing]) -> bool:
    """Whether unseen code had the module, a part of it, or something that it is a part of."""
    if event.subject is None:
        return True
    return any(
        _within(t, module, parts) or module.inside(t) or belongs(module, t)
        for t in options(event.subject)
        if isinstance(t, Thing)
    )


def _reaches_all(event: ev.Freeze, module: Thing) -> bool:
    """Whether a freeze reaches every parameter of the module."""
    owner, thing = event.subject, event.thing
    if not isinstance(owner, Thing) or not isinstance(owner.what, Module):
        return False
    if isinstance(thing.what, Module) and event.how == "attribute":
        return False  # an attribute of the module, which freezes nothing
    source = element_of(thing)
    if source is not None and filtered(source):
        return False
    return module.inside(owner) or any(part is module for part in event.parts.get(owner.serial, ()))


def _may_thaw(event: ev.Freeze, module: Thing, parts: Sequence[Thing]) -> bool:
    """Whether a thaw may reach a parameter of the module."""
    owner = event.subject
    if not isinstance(owner, Thing) or not owner.root.core.certain or owner.summary:
        return True
    held = event.parts.get(owner.serial, ())
    return module.inside(owner) or _within(owner, module, parts) or module in held or not isinstance(owner.what, Module)
