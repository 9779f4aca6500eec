"""Which modules are frozen where an optimizer is built."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.source.follow import Flow, States, Walk
from gradcheck_lint.source.parts import filtered
from gradcheck_lint.source.values import Thing, options

if TYPE_CHECKING:
    from gradcheck_lint.source import events as ev

FROZEN, OPEN = "frozen", "open"


def frozen(timeline: ev.Timeline, built: ev.Event, module: Thing) -> bool:
    """Whether all parameters of a module are frozen at an event on every path, as far as the code shows."""
    if not any(e.kind == "freeze" and e.detail["value"] is False for e in timeline.events("freeze")):
        return False
    path = _Path(timeline, built, module.core)
    return path.states == {FROZEN}


def unfrozen_later(timeline: ev.Timeline, built: ev.Event, module: Thing) -> bool:
    """Whether the parameters of a module may be unfrozen after an event."""
    after = False
    for event, around in timeline.located():
        after = after or event is built
        again = after or any(type(step).__name__ == "Loop" for step in around)
        if again and event.kind == "freeze" and event.detail["value"] is not False and _may_reach(event, module.core):
            return True
    return False


class _Path(Walk):
    """Whether one module is frozen, along every path up to an event."""

    def __init__(self, timeline: ev.Timeline, built: ev.Event, module: Thing) -> None:
        changes = timeline.events("freeze", "build", "set-attribute")
        super().__init__(timeline, (built, *changes))
        self.built, self.module = built, module
        self.states: set[str] = set()
        self.run(timeline.tree, frozenset({OPEN}))

    def loop(self, step: ev.Loop, states: States) -> Flow:
        """A loop that freezes goes over all that there is to freeze: after it, its body has run."""
        flow = super().loop(step, states)
        if len(step.body.steps) == 1 and getattr(step.body.steps[0], "kind", "") == "freeze":
            return flow._replace(end=self.run(step.body, states).end)
        return flow

    def event(self, event: ev.Event, states: States) -> States:
        if event is self.built:
            self.states |= states
        if event.kind == "build" and event.concerns(self.module):
            return frozenset({OPEN})
        if event.kind == "freeze":
            if event.detail["value"] is False:
                return frozenset({FROZEN}) if _reaches_all(event, self.module) else states
            return frozenset({OPEN}) if _may_reach(event, self.module) else states
        if event.kind == "set-attribute" and event.detail["attr"] != "requires_grad":
            value = event.detail["value"]
            if any(isinstance(o, Thing) and o.role in ("module", "tensor") for o in options(value)):
                target = [o for o in options(event.subject) if isinstance(o, Thing)]
                return frozenset({OPEN}) if any(t.core.inside(self.module) for t in target) else states
        return states


def _reaches_all(event: ev.Event, module: Thing) -> bool:
    """Whether a freeze reaches every parameter of the module."""
    owner, thing = event.subject, event.detail["thing"]
    if not isinstance(owner, Thing) or owner.role != "module":
        return False
    if thing.role == "module" and event.detail["how"] == "attribute":
        return False  # an attribute of the module, which freezes nothing
    source = thing.detail.get("element_of")
    if isinstance(source, Thing) and filtered(source):
        return False
    return module.inside(owner) or any(part is module for part in event.detail["parts"].get(owner.serial, ()))


def _may_reach(event: ev.Event, module: Thing) -> bool:
    owner = event.subject
    if not isinstance(owner, Thing) or not owner.root.core.certain or owner.summary:
        return True
    held = event.detail["parts"].get(owner.serial, ())
    return module.inside(owner) or owner.core.inside(module) or module in held or owner.role != "module"
