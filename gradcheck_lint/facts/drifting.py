"""Frozen parts that move all the same: woken up by `train()`, decayed behind a mask, moved on by what is left over."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

from gradcheck_lint.facts.modes import may_be, switched, trains, within
from gradcheck_lint.facts.optimizer_options import constant
from gradcheck_lint.facts.order import after
from gradcheck_lint.facts.query import torch_class
from gradcheck_lint.laws.answer import NO, YES
from gradcheck_lint.source import events as ev
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source import tree
from gradcheck_lint.source.effort import spend
from gradcheck_lint.source.follow import States, Walk
from gradcheck_lint.source.holding import held_by, reaches
from gradcheck_lint.source.natures import Grad, Module, Optimizer, nature
from gradcheck_lint.source.run.parts import walked_from
from gradcheck_lint.source.values import Thing, only, things


class Woken(NamedTuple):
    """A frozen part that was put into evaluation mode, and back into training mode with the model around it."""

    on: ev.SetMode
    off: ev.SetMode
    part: Thing
    frozen: ev.Freeze
    trained: ev.Backward


def woken(timeline: tl.Timeline) -> Iterator[Woken]:
    """The calls of `train()` that wake up a part which is to stay as it is, where the training then goes on."""
    if timeline.cut or timeline.hooked:
        return
    modes = list(timeline.events(ev.SetMode))
    ons = [event for event in modes if event.training is True]
    freezes = [e for e in timeline.events(ev.Freeze) if e.value is False] if ons else []
    done: set[int] = set()
    for off in modes if freezes else ():
        part = _part(off) if off.training is False else None
        if part is None or part.serial in done:
            continue
        frozen = next((e for e in freezes if any(t.core is part for t in things(e.subject))), None)
        whole = {t.serial: t for on in ons if (t := switched(on)) is not None and t is not part and within(part, t)}
        for model in whole.values() if frozen is not None else ():
            trained = [e for e in timeline.events(ev.Backward) if trains(e, model)]
            walk = _Waking(timeline, part, model, trained)
            walk.run(timeline.tree, frozenset({_START}))
            found = next(((e, on) for e in trained if (on := walk.told(e)) is not None), None)
            if found is not None and frozen is not None:
                done.add(part.serial)
                yield Woken(found[1], off, part, frozen, found[0])


def _part(event: ev.SetMode) -> Thing | None:
    """The part whose layers are switched: itself, or those that a loop goes over."""
    thing = only(event.subject)
    walked = walked_from(thing) if thing is not None else None
    found = walked.core if walked is not None else switched(event)
    return found if found is not None and isinstance(found.root.core.what, Module) and not found.summary else None


class _How(Enum):
    BEFORE = "before"
    KEPT = "kept"  # in evaluation mode
    WOKEN = "woken"
    UNKNOWN = "unknown"


_State = tuple[_How, ev.SetMode | None]
_START: _State = (_How.BEFORE, None)


class _Waking(Walk):
    """Follows the mode of one part of a model."""

    def __init__(self, timeline: tl.Timeline, part: Thing, model: Thing, trained: list[ev.Backward]) -> None:
        self.part, self.model = part, model
        self.trained = {id(event) for event in trained}
        self.met: dict[int, set[_State]] = {}
        changes = [e for e in timeline.events(ev.SetMode, ev.Unknown, ev.Freeze, ev.Build) if self.heeds(e)]
        super().__init__(timeline, (*trained, *changes))

    def heeds(self, event: ev.Event) -> bool:
        spend(1)
        if isinstance(event, ev.Build):
            return event.concerns(self.model)
        if isinstance(event, ev.Freeze) and event.value is False:
            return False
        return event.subject is None or may_be(event.subject, self.part)

    def told(self, trained: ev.Event) -> ev.SetMode | None:
        """The call that has woken the part up, where it is awake on all paths."""
        states = {state for state in self.met.get(id(trained), set()) if state[0] is not _How.BEFORE}
        ons = {id(on): on for how, on in states if how is _How.WOKEN and on is not None}
        if len(ons) != 1 or any(how is not _How.WOKEN for how, _ in states):
            return None
        return next(iter(ons.values()))

    def event(self, event: ev.Event, states: States) -> States:
        if id(event) in self.trained:
            self.met.setdefault(id(event), set()).update(states)
            return states
        if isinstance(event, ev.Build):
            return frozenset({_START})
        if isinstance(event, ev.SetMode):
            thing, part = switched(event), _part(event)
            if event.training is False and part is not None and within(self.part, part):
                return frozenset({(_How.KEPT, None)})
            if event.training is True and thing is self.model:
                return frozenset((_How.WOKEN, event) if s[0] is _How.KEPT else s for s in states)
        return frozenset(s if s[0] is _How.BEFORE else (_How.UNKNOWN, None) for s in states)


class Masked(NamedTuple):
    """A part of a gradient is set to 0, and the step moves what is behind it by weight decay all the same."""

    write: ev.SetItem
    optimizer: Thing
    step: ev.Step
    decay: str


def masked(timeline: tl.Timeline) -> Iterator[Masked]:
    """The masks of gradients that do not hold back the decay of an optimizer."""
    if timeline.cut or timeline.hooked or not timeline.has(ev.Step):
        return
    for write in timeline.events(ev.SetItem):
        grad = only(write.subject, Grad)
        if grad is None or grad.parent is None or constant(write.value) != 0 or not _slice(write.place.node):
            continue
        weight = grad.parent[0]
        later = after(timeline, write)
        step = next((e for e in later if isinstance(e, ev.Step)), None)
        optimizer = only(step.subject, Optimizer) if step is not None else None
        if step is None or optimizer is None or reaches(weight, optimizer) is NO:
            continue
        decay = decays(optimizer)
        if not decay or any(_writes(e, weight) for e in later):
            continue
        yield Masked(write, optimizer, step, decay)


def _slice(target: tree.Node) -> bool:
    """Whether an index names rows by their numbers: a mask that is computed may be that of weights which are 0."""
    if not isinstance(target, tree.Subscript):
        return False
    return any(isinstance(part, tree.Slice) for part in target.index.walk())


def _writes(event: ev.Event, weight: Thing) -> bool:
    """Whether something may put rows of a weight back: writes into it, or unseen code that has its module."""
    if isinstance(event, (ev.SetItem, ev.Augment, ev.SetData, ev.SetAttribute)):
        return any(
            t is weight or (t.parent is not None and t.parent[0] is weight and not isinstance(t.what, Grad))
            for t in things(event.subject)
        )
    if isinstance(event, ev.TorchCall):
        receiver = only(event.receiver)
        return receiver is not None and receiver.inside(weight) and nature(receiver, Grad) is None
    return isinstance(event, ev.Unknown) and (event.subject is None or may_be(event.subject, weight.root))


def decays(optimizer: Thing) -> str:
    """How an optimizer of torch decays weights, as it was built: "" if it does not, or that does not show."""
    name, args = torch_class(optimizer), optimizer.args
    if not name or args is None or args.open or "**" in args.keywords:
        return ""
    given = args.keywords.get("weight_decay")
    if given is None:
        return "the `weight_decay` that AdamW has unless it is told otherwise, 0.01" if name == "AdamW" else ""
    number = constant(given)
    return f"`weight_decay={number:g}`" if number else ""


class LeftOver(NamedTuple):
    """A part is frozen in the middle of a training, with gradients that are set to 0 and not to None."""

    frozen: ev.Freeze
    step: ev.Step
    optimizer: Thing
    zero: ev.Zero


def left_over(timeline: tl.Timeline) -> Iterator[LeftOver]:
    """The steps that move what was frozen, by momentum or decay with gradients of 0."""
    if timeline.cut or timeline.hooked:
        return
    zeros = list(timeline.events(ev.Zero))
    if not any(map(_keeps, zeros)) or timeline.has(ev.Unknown):
        return
    for freeze in timeline.events(ev.Freeze):
        loops = [part for part, _ in timeline.path(freeze) if isinstance(part, tl.Loop) and not part.once]
        if freeze.value is not False or not loops:
            continue
        later = after(timeline, freeze)
        for step in [e for e in later if isinstance(e, ev.Step)][:1]:
            optimizer = only(step.subject, Optimizer)
            if optimizer is None or optimizer.root.serial >= loops[0].start or not _drives(optimizer):
                continue
            if not _holds(optimizer, freeze):
                continue
            mine = [e for e in zeros if reaches(e.subject, optimizer) is not NO]
            rebuilt = any(isinstance(e, (ev.BuildOptimizer, ev.GradWrite)) for e in later)
            if mine and all(map(_keeps, mine)) and not rebuilt:
                yield LeftOver(freeze, step, optimizer, mine[0])


def _holds(optimizer: Thing, freeze: ev.Freeze) -> bool:
    """Whether an optimizer has the parameters that are frozen."""
    if reaches(freeze.subject, optimizer) is YES:
        return True
    held = [module for module in held_by(optimizer).modules if module.certain]
    return any(within(thing, module.core) for thing in things(freeze.subject) for module in held)


def _keeps(zero: ev.Zero) -> bool:
    """Whether gradients are set to 0, and stay."""
    node = zero.place.node
    given = [a.value for a in node.args if a.keyword == "set_to_none"] if isinstance(node, tree.Call) else []
    return any(isinstance(value, tree.Constant) and value.value is False for value in given)


_AVERAGING = frozenset({"Adam", "AdamW", "NAdam", "RAdam", "Adamax"})
"""Optimizers that go on for a while where gradients were."""


def _drives(optimizer: Thing) -> bool:
    """Whether an optimizer of torch moves parameters whose gradients are 0."""
    momentum = optimizer.args.keywords.get("momentum") if optimizer.args is not None else None
    moves = momentum is not None and constant(momentum) not in (None, 0)
    return (
        torch_class(optimizer) in _AVERAGING or bool(decays(optimizer)) or (torch_class(optimizer) == "SGD" and moves)
    )
