"""Which parameters of a model are one and the same, by what its class writes, and what makes two of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gradcheck_lint.facts.identity import fresh
from gradcheck_lint.facts.order import after
from gradcheck_lint.source import tree
from gradcheck_lint.source.events import Event, Forward, Grow, LoadState, Move, SetAttribute, Step
from gradcheck_lint.source.natures import Module, Opaque
from gradcheck_lint.source.values import ClassValue, Constant, FunctionValue, Thing, only, things

if TYPE_CHECKING:
    from gradcheck_lint.source.timeline import Timeline

BREAKING = (SetAttribute, LoadState, Move)
"""The events that can make two parameters of one."""


class Tie(NamedTuple):
    """Two names for one parameter, as in `self.head.weight = self.embed.weight`, and the method that makes it one."""

    one: str
    other: str
    method: str


class Untied(NamedTuple):
    """What was one parameter is two, and the model is trained on."""

    tie: Tie
    step: Step


def ties(cls: ClassValue) -> list[Tie]:
    """The parameters that the methods of a class tie without asking whether they should."""
    found: list[Tie] = []
    for base in cls.lineage():
        for member in base.members.values() if isinstance(base, ClassValue) else ():
            if not isinstance(member, FunctionValue):
                continue
            for statement in member.function.body:
                if isinstance(statement, tree.Assign) and len(statement.targets) == 1:
                    one, other = tree.dotted(statement.targets[0]), tree.dotted(statement.value)
                    if _own(one) and _own(other) and one != other and one.count(".") > 1:
                        found.append(Tie(_below(one), _below(other), member.function.name))
    return found


def _own(name: str) -> bool:
    return name.startswith("self.") and name.endswith((".weight", ".bias"))


def _below(name: str) -> str:
    return name.removeprefix("self.")


def untied(timeline: Timeline, event: SetAttribute | LoadState | Move) -> Untied | None:
    """What an event makes two of that was one parameter; None if it is tied again before the next step."""
    model = _model(event)
    if model is None or not isinstance(model.core.cls, ClassValue):
        return None
    found = [tie for tie in ties(model.core.cls) if _made(model.core.cls, tie) and _breaks(event, model, tie)]
    if not found:
        return None
    for later in after(timeline, event):
        if later is not event and _ties_again(later, model, found[0]):
            return None
        if isinstance(later, Step):
            runs = (e for e in after(timeline, event) if isinstance(e, Forward))
            return Untied(found[0], later) if any(e.concerns(model) for e in runs) else None
    return None


def _model(event: SetAttribute | LoadState | Move) -> Thing | None:
    """The model in which an event exchanges parameters, if it does."""
    if isinstance(event, LoadState):
        flag = event.args.keywords.get("assign")
        return only(event.subject, Module) if isinstance(flag, Constant) and flag.value is True else None
    if isinstance(event, Move):
        return event.subject if event.how == "to_empty" and isinstance(event.subject.what, Module) else None
    if event.attr not in ("weight", "bias") or not fresh(event.value) or event.subject is None:
        return None
    layer = only(event.subject, (Module, Opaque))
    if layer is None:
        return None
    return layer.root if layer.parent is not None else layer.owners[0] if len(layer.owners) == 1 else None


def _made(cls: ClassValue, tie: Tie) -> bool:
    """Whether the constructor makes a tie, itself or by a method that it calls on every path."""
    if tie.method == "__init__":
        return True
    init = cls.member("__init__")
    if not isinstance(init, FunctionValue):
        return False
    calls = (s.value for s in init.function.body if isinstance(s, tree.Evaluate))
    return any(isinstance(c, tree.Call) and tree.dotted(c.func) == f"self.{tie.method}" for c in calls)


def _breaks(event: Event, model: Thing, tie: Tie) -> bool:
    if not isinstance(event, SetAttribute):
        return True
    target = event.place.node
    name = tree.dotted(target)
    return any(name.endswith(f".{side}") for side in (tie.one, tie.other))


def _ties_again(event: Event, model: Thing, tie: Tie) -> bool:
    """Whether an event makes the two parameters one again, or code runs that may."""
    if isinstance(event, SetAttribute):
        source = event.source
        sides = (tie.one, tie.other)
        return source is not None and any(tree.dotted(source).endswith(f".{side}") for side in sides)
    if isinstance(event, Grow):
        call = event.place.node
        known = isinstance(call, tree.Call) and tree.last_name(call.func) != tie.method
        return not known or event.subject is None or any(model.inside(t) for t in things(event.subject))
    return False
