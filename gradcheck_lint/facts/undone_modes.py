"""Layers of a kind, or a part, that are put into evaluation mode, and back with the whole model before any training."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

from gradcheck_lint.facts import query
from gradcheck_lint.facts.built_anew import nodes_between
from gradcheck_lint.facts.modes import may_be, switched, trains, within
from gradcheck_lint.source import events as ev
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source import tree
from gradcheck_lint.source.follow import States, Walk
from gradcheck_lint.source.holding import held_by
from gradcheck_lint.source.natures import Module, Optimizer
from gradcheck_lint.source.run.parts import walked_from
from gradcheck_lint.source.values import Thing, only


class Undone(NamedTuple):
    """A `train()` that undoes what `off` did for some layers: those of a test, or a `part` that nothing trains."""

    on: ev.SetMode
    off: ev.SetMode
    part: Thing | None
    trained: ev.Backward


def undone(timeline: tl.Timeline) -> Iterator[Undone]:
    """The layers that are in training mode in all of the training, though they were switched before it."""
    if timeline.cut or timeline.hooked:
        return
    done: set[int] = set()
    for off, around in timeline.located(ev.SetMode):
        picked = _picked(off, around)
        part = _left_alone(timeline, off) if picked is None else None
        kept = picked or part
        if kept is None or kept.serial in done:
            continue
        done.add(kept.serial)
        model = kept if part is None else kept.root.core
        trained = [e for e in timeline.events(ev.Backward) if trains(e, model)]
        walk = _Picked(timeline, kept, trained, whole=part is not None)
        walk.run(timeline.tree, frozenset({(_How.BEFORE, None)}))
        on = walk.told()
        if on is not None and not _used(timeline, off, on):
            yield Undone(on, off, part, trained[0])


def _used(timeline: tl.Timeline, off: ev.SetMode, on: ev.SetMode) -> bool:
    """Whether code between two switches runs a part of the model, or hands it to what is not followed.

    What is followed shows by itself whether it does; `summary(model)` does not.
    """
    name, followed = query.receiver(on), {id(call.place.node) for call in tl.calls(timeline.tree)}
    for node in nodes_between(timeline, off, on) if name else ():
        if not isinstance(node, tree.Call) or id(node) in followed:
            continue
        func = tree.dotted(node.func)
        if func.startswith(f"{name}.") and tree.last_name(node.func) not in _OWN:
            return True  # a part of it, or a method of its own
        if func not in _LOOKING and any(tree.dotted(argument.value) == name for argument in node.args):
            return True
    return False


_LOOKING = frozenset({"isinstance", "print", "len", "id", "type", "repr", "str", "getattr", "hasattr"})
_OWN = frozenset(
    "parameters named_parameters modules named_modules children named_children buffers named_buffers state_dict "
    "load_state_dict to cuda cpu float half double bfloat16 train eval requires_grad_ zero_grad apply".split()
)


def _picked(event: ev.SetMode, around: tuple[tl.Part, ...]) -> Thing | None:
    """The model some of whose layers a loop puts into evaluation mode: those that a test lets through."""
    thing = only(event.subject) if event.training is False else None
    found = _gone_over(thing) if thing is not None and any(isinstance(part, tl.Branch) for part in around) else None
    return found if found is not None and isinstance(found.what, Module) and not found.summary else None


def _left_alone(timeline: tl.Timeline, event: ev.SetMode) -> Thing | None:
    """The part of a model that is put into evaluation mode, and that no optimizer has which steps."""
    thing = switched(event) if event.training is False else None
    if thing is None or thing.parent is None or thing.summary or not isinstance(thing.root.core.what, Module):
        return None
    optimizers = [only(step.subject, Optimizer) for step in timeline.events(ev.Step)]
    return thing if optimizers and all(one is not None and _without(one, thing) for one in optimizers) else None


def _without(optimizer: Thing, part: Thing) -> bool:
    """Whether an optimizer has been given other parts of the model alone."""
    held = held_by(optimizer)
    apart = all(module.parent is not None and not within(part, module) for module in held.modules)
    return (
        not optimizer.summary
        and not held.unknown
        and bool(held.modules)
        and apart
        and not held.tensors
        and not any(within(module, part) for module in held.modules)
    )


def _gone_over(thing: Thing) -> Thing | None:
    """The model of whose layers something is one: of `model.modules()`, or what `model.apply(f)` gives `f`."""
    walked = walked_from(thing)
    if walked is None and thing.summary and thing.parent is not None and thing.parent[1] == "[]":
        walked = thing.parent[0]
    return walked.core if walked is not None else None


class _How(Enum):
    BEFORE = "before"
    KEPT = "kept"  # the picked layers are in evaluation mode
    WOKEN = "woken"
    UNKNOWN = "unknown"


_State = tuple[_How, ev.SetMode | None]


class _Picked(Walk):
    """Follows the mode of the layers of a model that are picked out."""

    def __init__(self, timeline: tl.Timeline, model: Thing, trained: list[ev.Backward], *, whole: bool) -> None:
        self.model, self.whole = model, whole
        self.trained = {id(event) for event in trained}
        self.met: set[_State] = set()
        changes = [e for e in timeline.events(ev.SetMode, ev.Unknown, ev.Forward) if self.heeds(e)]
        super().__init__(timeline, (*trained, *changes))

    def heeds(self, event: ev.Event) -> bool:
        one = only(event.subject)
        if may_be(event.subject, self.model) or (one is not None and _gone_over(one) is self.model):
            return True
        return isinstance(event, ev.Forward) and one is not None and within(one, self.model)  # a part of it

    def told(self) -> ev.SetMode | None:
        """The call that has put them back wherever the model is trained."""
        switched = {state for state in self.met if state[0] is not _How.BEFORE}
        ons = {id(on): on for how, on in switched if on is not None}
        if len(ons) != 1 or any(how is not _How.WOKEN for how, _ in switched):
            return None
        return next(iter(ons.values()))

    def event(self, event: ev.Event, states: States) -> States:
        if id(event) in self.trained:
            self.met.update(states)
            return states
        if isinstance(event, ev.SetMode):
            thing, one = switched(event), only(event.subject)
            if one is not None and (thing is self.model if self.whole else _gone_over(one) is self.model):
                now = _How.KEPT if event.training is False else _How.UNKNOWN
                return frozenset({(now, None)})
            if event.training is True and thing is not None and within(self.model, thing):
                return frozenset((_How.WOKEN, event) if s[0] is _How.KEPT else s for s in states)
            if event.training is False and thing is not None and within(self.model, thing):
                return states  # all of it, and what has been picked out as well
        if isinstance(event, ev.Forward):
            return frozenset((_How.UNKNOWN, None) if s[0] is _How.KEPT else s for s in states)  # it was used
        return frozenset(s if s[0] is _How.BEFORE else (_How.UNKNOWN, None) for s in states)
