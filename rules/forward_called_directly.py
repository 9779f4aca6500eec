"""GL603: `forward` of a module is called by its name, which skips its hooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.facts import repair
from gradcheck_lint.finding import Confidence, Fix, Safety, Severity
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.source import tree
from gradcheck_lint.source.events import ForwardCall, ForwardHook, SetAttribute
from gradcheck_lint.source.natures import Module
from gradcheck_lint.source.place import Place
from gradcheck_lint.source.values import ClassValue, Thing, things

if TYPE_CHECKING:
    from gradcheck_lint.source.timeline import Timeline


class ForwardCalledDirectly(Rule):
    code = "GL603"
    slug = "forward-called-directly"
    severity = Severity.WARNING
    fix = Safety.UNSAFE
    needs = (ForwardCall,)
    triggers = r"\.forward\("

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        for event in timeline.events(ForwardCall):
            self.called(timeline, event, report)

    def called(self, timeline: Timeline, event: ForwardCall, report: Report) -> None:
        call, module = event.place.node, event.subject
        if not isinstance(call, tree.Call) or not isinstance(call.func, tree.Attribute) or "try" in event.context:
            return
        if not module.core.certain or tree.dotted(call.func.value) in ("self", "super"):
            return
        if event.function is not None and event.function.name == "__call__":
            return  # this is what stands in for calling the module
        if _own_call(module) or any(e.concerns(module) and e.attr == "forward" for e in timeline.events(SetAttribute)):
            return
        name = repair.receiver(event.place)
        hook = _hooked(timeline, module)
        if hook is None and event.function is not None and _made_in_the_same(event):
            return  # nobody else can have registered one
        old = hook is not None and not hook.how.startswith("register_")
        report(
            event.place,
            "`forward` is called by its name, which skips the hooks of the module",
            label=f"goes past `{name}.__call__`",
            why=f"the weight that `{hook.how}` computes before each call stays as it was"
            if old and hook is not None
            else "forward hooks, and what wrappers and tools hang on them, do not run",
            help=f"call the module: `{name}(...)`",
            related=[("a hook is registered here", hook.place)] if hook is not None else [],
            fix=_call(event, call.func, name),
            confidence=_confidence(timeline, hook),
        )


def _own_call(module: Thing) -> bool:
    """Whether its class defines what calling it does."""
    return isinstance(module.core.cls, ClassValue) and module.core.cls.member("__call__") is not None


def _made_in_the_same(event: ForwardCall) -> bool:
    """Whether the module is one of the function that calls it, made there for itself."""
    place = event.subject.core.place
    return place is not None and place.chunk is event.place.chunk


def _hooked(timeline: Timeline, module: Thing) -> ForwardHook | None:
    """What has registered a hook on just this module."""
    for event in timeline.events(ForwardHook):
        if any(thing.core is module.core for thing in things(event.subject)):
            return event
    return None


def _confidence(timeline: Timeline, hook: ForwardHook | None) -> Confidence:
    """What is skipped may matter where somebody has registered something, be it on a module that is not known."""
    if hook is not None:
        return Confidence.HIGH
    for event in timeline.events(ForwardHook):
        on = things(event.subject)
        if not on or any(not isinstance(thing.what, Module) or thing.summary or not thing.certain for thing in on):
            return Confidence.MEDIUM
    return Confidence.LOW


def _call(event: ForwardCall, func: tree.Attribute, name: str) -> Fix | None:
    if not tree.dotted(func.value):
        return None
    edit = repair.replace(Place(event.place.chunk, func), name)
    return Fix(f"call `{name}`", Safety.UNSAFE, (edit,))
