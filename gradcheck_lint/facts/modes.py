"""Where a model that was put into evaluation mode is trained on before anybody puts it back.

A call of `eval()` is taken along the paths that lead on from it, round the loop that it shares with a backward of the
same model (or, where they share none, from the start of the entry point to its end). Whatever may switch the model back
does so: code that was not seen, a mode that is not known, a mode of what may be the same model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from gradcheck_lint.facts.order import after
from gradcheck_lint.facts.query import asked, loops_within
from gradcheck_lint.laws.answer import MAYBE, NO, YES, Answer
from gradcheck_lint.laws.mode import OFF, Since, lasts, records
from gradcheck_lint.source import events as ev
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source import tree
from gradcheck_lint.source.deps import depends
from gradcheck_lint.source.effort import spend
from gradcheck_lint.source.follow import States, Walk
from gradcheck_lint.source.holding import belongs, held_by, reaches
from gradcheck_lint.source.natures import Argument, Module, Opaque, Optimizer, Pass, Super
from gradcheck_lint.source.place import Place
from gradcheck_lint.source.values import ClassValue, FunctionValue, Thing, Value, only, options, things


class Left(NamedTuple):
    """A model that is left in evaluation mode: the call, the pass that trains it so, its backward, and who steps then.

    `held` says whether the optimizer of that step has the parameters of the model; `once` is a call that has put it
    into training mode before the loop; `within` is the loop that leads back from the one to the other, if there is one.
    Where it is but a `part` of what the backward goes through, that may be the way in which the rest is to be trained.
    """

    off: ev.SetMode
    model: Thing
    trained: ev.Event
    backward: ev.Backward
    step: ev.Step
    held: Answer
    once: ev.SetMode | None
    within: tl.Loop | None
    part: bool


def left_in_eval(timeline: tl.Timeline) -> Iterator[Left]:
    """The calls of `eval()` after which the model is trained on every path before it is switched back."""
    if timeline.cut or timeline.hooked:
        return
    offs = [event for event in timeline.events(ev.SetMode) if event.training is False]
    if not offs or not timeline.has(ev.Backward):
        return
    seen = _Seen(timeline)
    done: set[tuple[int, int]] = set()
    for off in offs:
        model = switched(off)
        if model is None or model.summary or (id(off.place.node), model.serial) in done:
            continue
        found = seen.left(off, model)
        if found is not None:
            done.add((id(off.place.node), model.serial))
            yield found


def switched(event: ev.SetMode) -> Thing | None:
    """The one model whose mode is set; None if it may be several."""
    thing = only(event.subject, (Module, Opaque, Super))
    if thing is not None and isinstance(thing.what, Super):
        thing = thing.what.receiver
    return thing.core if thing is not None else None


class Head(NamedTuple):
    """Where the training begins that is to be in training mode: a statement to stand before, and the model's name."""

    statement: Place
    name: str


def head(timeline: tl.Timeline, left: Left) -> Head | None:
    """Where a model can be put back: at the head of the loop, or of the function that trains, before its batches.

    None where the model has no plain name there, or gets it only later, and where the function goes forward alone: it
    may be there for the evaluation too.
    """
    if not isinstance(left.trained, ev.Forward) or left.trained.subject.core is not left.model:
        return None
    node = left.trained.place.node
    name = tree.dotted(node.func) if isinstance(node, tree.Call) else ""
    inner = [part for part, _ in timeline.path(left.trained)]
    inner = inner[inner.index(left.within) + 1 :] if left.within is not None else inner
    called = next((part for part in reversed(inner) if isinstance(part, tl.Call)), None)
    if called is not None:
        if all(part is not called for part, _ in timeline.path(left.backward)):
            return None
        block = called.function.body
        spend(len(block))
        at = next((s for s in block if any(part is node for part in tree.walk_block([s]))), None)
    elif left.within is not None and isinstance(left.within.node, (tree.For, tree.While)):
        block = left.within.node.body
        at = block[0]
        if left.within.place.chunk is not left.trained.place.chunk:
            return None
    else:
        return None
    if not name or at is None or _binds(block, name.partition(".")[0]):
        return None
    return Head(Place(left.trained.place.chunk, at), name)


def _binds(block: tree.Block, name: str) -> bool:
    """Whether statements give a name a value."""
    for node in tree.walk_block(block):
        targets: list[tree.Expression] = []
        if isinstance(node, tree.Assign):
            targets = list(node.targets)
        elif isinstance(node, tree.For):
            targets = [node.target]
        elif isinstance(node, tree.With):
            targets = [target for _, target in node.items if target is not None]
        if any(isinstance(part, tree.Name) and part.id == name for target in targets for part in target.walk()):
            return True
    return False


def in_parts(timeline: tl.Timeline, model: Thing) -> bool:
    """Whether parts of a model are put into evaluation mode by themselves: `train()` would wake them up."""
    return any(
        event.training is not True
        and any(thing.core is not model for thing in things(event.subject))
        and may_be(event.subject, model)
        for event in timeline.events(ev.SetMode)
    )


class _Seen:
    """One timeline, as far as the modes of its models go."""

    def __init__(self, timeline: tl.Timeline) -> None:
        self.timeline = timeline
        self.steps = list(timeline.events(ev.Step))
        self.backwards = [(event, around) for event, around in timeline.located(ev.Backward) if self._serves(event)]

    def _serves(self, backward: ev.Backward) -> bool:
        """Whether a step may come of it: else it is there for the gradients, as those of an image."""
        return not self.steps or any(isinstance(event, ev.Step) for event in after(self.timeline, backward))

    def left(self, off: ev.SetMode, model: Thing) -> Left | None:
        """What comes of one call of `eval()`, in the innermost loop in which the model is trained."""
        trained = [(event, around) for event, around in self.backwards if trains(event, model)]
        if not trained and not self.frozen(model):
            trained = [(event, around) for event, around in self.backwards if _trains_within(event, model)]
        if not trained:
            return None
        path = [part for part, _ in self.timeline.path(off)]
        for loop in reversed(path):
            if not isinstance(loop, tl.Loop) or loop.once or loop.unfinished:
                continue
            inside = [(event, around) for event, around in trained if loop in around]
            if inside:
                return self._in(loop, off, model, inside)
        return self._in(None, off, model, trained)

    def frozen(self, part: Thing) -> bool:
        """Whether somebody may have frozen it: parts of a model that are not trained are put into evaluation mode."""
        return any(event.value is not True and may_be(event.subject, part) for event in self.timeline.events(ev.Freeze))

    def _in(
        self,
        loop: tl.Loop | None,
        off: ev.SetMode,
        model: Thing,
        trained: Sequence[tuple[ev.Backward, tuple[tl.Part, ...]]],
    ) -> Left | None:
        if loop is not None and (id(model) in loop.elements or model.root.serial >= loop.start):
            return None  # another model in each round
        steps = [(step, _holds(step, model)) for step in self.steps if loop is None or loop in self._around(step)]
        held = [(step, answer) for step, answer in steps if answer is not NO]
        free = [(event, around) for event, around in trained if not self._linked(off, around, loop)]
        if not held or not free:
            return None
        step, answer = next(((s, a) for s, a in held if a is YES), held[0])
        walk = _Round(self.timeline, loop, off, model, free)
        walk.run(loop if loop is not None else self.timeline.tree, frozenset({_START}))
        told = next((event for event, _ in free if lasts(walk.met(event)) is YES), None)
        part = told is not None and not trains(told, model)
        if told is None or (part and answer is not YES):
            return None
        once = self._once(loop, off, model)
        return Left(off, model, walk.passes.get(id(told), told), told, step, answer, once, loop, part)

    def _around(self, event: ev.Event) -> list[tl.Part]:
        return [part for part, _ in self.timeline.path(event)]

    def _linked(self, off: ev.SetMode, around: Sequence[tl.Part], loop: tl.Loop | None) -> bool:
        """Whether a backward and the call of `eval()` stand under tests of the same thing: `if phase == "train"`."""
        return bool(asked(self._around(off), loop) & asked(around, loop))

    def _once(self, loop: tl.Loop | None, off: ev.SetMode, model: Thing) -> ev.SetMode | None:
        """The call that has put the model into training mode, outside of the loop."""
        found = None
        for event in self.timeline.events(ev.SetMode):
            if event is off:
                break
            if event.training is True and switched(event) is model:
                found = event
        return found if found is None or loop is None or loop not in self._around(found) else None


class Recorded(NamedTuple):
    """A pass of a model in evaluation mode that is recorded, and goes into no backward."""

    judged: ev.Forward
    off: ev.SetMode


def recorded_evaluations(timeline: tl.Timeline) -> Iterator[Recorded]:
    """The passes that follow a call of `eval()` and build a graph for nothing, of models that the code trains."""
    backwards = list(timeline.events(ev.Backward))
    done: set[int] = set()
    for off in timeline.events(ev.SetMode) if backwards and not timeline.cut else ():
        model = switched(off) if off.training is False else None
        mine = [event for event in backwards if trains(event, model)] if model is not None else []
        if model is None or not mine:
            continue
        runs = _trained_by(timeline, mine, model)
        for event in after(timeline, off) if runs else ():
            if isinstance(event, (ev.GradMode, ev.Backward, ev.Unknown)):
                break
            if isinstance(event, ev.SetMode) and event is not off and may_be(event.subject, model):
                break
            if not isinstance(event, ev.Forward) or event.subject.core is not model or id(event) in runs:
                continue
            if records(event.context) is YES and id(event.place.node) not in done:
                done.add(id(event.place.node))
                yield Recorded(event, off)


class _State(NamedTuple):
    """How the model is, and how it was at its last recorded pass since the last backward.

    Since it was switched it was `evaluated` if it was run and not to be trained, and `unrecorded` if a block began, in
    the function that switched it, in which nothing is recorded: in that, something of it may have been run.
    """

    now: Since
    ran: Since | None = None
    evaluated: bool = False
    unrecorded: bool = False


_START = _State(Since.BEFORE)


class _Round(Walk):
    """Takes one call of `eval()` along the paths that lead on from it, to the backwards that train the model."""

    def __init__(
        self,
        timeline: tl.Timeline,
        loop: tl.Loop | None,
        off: ev.SetMode,
        model: Thing,
        trained: Sequence[tuple[ev.Backward, tuple[tl.Part, ...]]],
    ) -> None:
        self.off, self.model = off, model
        backwards = [event for event, _ in trained]
        self.trained = {id(event) for event in backwards}
        self.runs = _trained_by(timeline, backwards, model)
        self.judging = {
            id(event)
            for event, around in timeline.located(ev.Forward)
            if within(event.subject, model) and _judges(around, [other for _, other in trained], loop)
        }
        self.states: dict[int, set[_State]] = {}
        self.passes: dict[int, ev.Forward] = {}
        self.last: ev.Forward | None = None
        kinds = (ev.SetMode, ev.Forward, ev.Unknown, ev.Build, ev.SetAttribute, ev.TorchCall)
        heeded = [e for e in timeline.events(*kinds) if self.heeds(e)]
        super().__init__(timeline, (*backwards, *heeded))

    def met(self, trained: ev.Event) -> set[Since]:
        """How the model is where a backward trains it.

        Nobody wants it in evaluation mode who has only had it evaluated; who trains it at once may want to train it so.
        """
        states = self.states.get(id(trained), set())
        before = any(state.now is Since.BEFORE for state in states)
        found: set[Since] = set()
        for state in states:
            how = state.ran or state.now
            meant = not (state.evaluated or (state.unrecorded and before))
            found.add(Since.BACK if how is Since.LEFT and meant else how)
        return found

    def heeds(self, event: ev.Event) -> bool:
        spend(1)
        if isinstance(event, ev.SetMode):
            return event is self.off or may_be(event.subject, self.model)
        if isinstance(event, ev.Forward):
            return within(event.subject, self.model)
        if isinstance(event, ev.SetAttribute):
            return event.attr == "training" and may_be(event.subject, self.model)
        if isinstance(event, ev.Build):
            return event.concerns(self.model)
        if isinstance(event, ev.TorchCall):
            return event.name in _UNRECORDED and event.function is self.off.function
        return event.subject is None or may_be(event.subject, self.model)

    def event(self, event: ev.Event, states: States) -> States:
        if id(event) in self.trained:
            if self.last is not None:
                self.passes.setdefault(id(event), self.last)
            self.states.setdefault(id(event), set()).update(states)
            return frozenset(s._replace(ran=None) for s in states)
        if isinstance(event, ev.Forward):
            return self.ran(event, states)
        if isinstance(event, ev.TorchCall):
            return frozenset(s._replace(unrecorded=True) if s.now is Since.LEFT else s for s in states)
        if event is self.off:
            judged = bool(event.context & OFF)  # nothing can be trained in there
            return frozenset(_State(Since.LEFT, s.ran, judged) for s in states)
        if isinstance(event, ev.Build):
            return frozenset({_START})
        if isinstance(event, ev.SetMode) and event.training is False:
            return states  # a second call, which is asked by itself
        return frozenset(s if s.now is Since.BEFORE else s._replace(now=Since.BACK) for s in states)

    def ran(self, event: ev.Forward, states: States) -> States:
        """The model computes: to be trained, if that is recorded and a backward goes through it, else to be judged."""
        if event.context & OFF or (id(event) not in self.runs if self.runs else id(event) in self.judging):
            return frozenset(s._replace(evaluated=True) if s.now is Since.LEFT else s for s in states)
        self.last = event
        return frozenset(s._replace(ran=s.now) for s in states)


_UNRECORDED = frozenset(f"torch.{name}" for name in OFF)


def _judges(around: Sequence[tl.Part], trained: Sequence[Sequence[tl.Part]], loop: tl.Loop | None) -> bool:
    """Whether a pass is in a loop of its own, beside those in which the model is trained."""
    mine = loops_within(around, loop)
    return bool(mine) and all(
        any(part not in mine for part in other) and any(part not in other for part in mine)
        for other in (loops_within(backward, loop) for backward in trained)
    )


def trains(backward: ev.Backward, model: Thing) -> bool:
    """Whether a backward goes through a model, or through something in it."""
    return any(within(_module(thing), model) for thing in depends(backward.subject) if not _idle(thing))


def _trains_within(backward: ev.Backward, part: Thing) -> bool:
    """Whether a backward goes through a model that has this part in its `forward`, and keeps no part from it."""
    whole, name = (part.parent[0].core, part.parent[1]) if part.parent is not None else (None, "")
    if whole is None or not isinstance(whole.cls, ClassValue) or not trains(backward, whole):
        return False
    used = False
    for method in _methods(whole.cls):
        own = method.parameters[0].name if method.parameters else ""
        for node in tree.walk_block(method.body):
            if isinstance(node, tree.Attribute):
                if node.attr in _KEEPING:
                    return False
                used = used or (method.name == "forward" and tree.dotted(node) == f"{own}.{name}")
    return used


def _methods(cls: ClassValue) -> Iterator[tree.Function]:
    for base in cls.lineage():
        for member in base.members.values() if isinstance(base, ClassValue) else ():
            if isinstance(member, FunctionValue):
                yield member.function


_KEEPING = OFF | {"requires_grad", "requires_grad_", "detach", "set_grad_enabled"}
"""What is spoken of where a part of a model is kept from being trained."""


def _idle(thing: Thing) -> bool:
    return not isinstance(thing.what, (Module, Pass))


def _module(thing: Thing) -> Thing:
    return thing.what.of if isinstance(thing.what, Pass) else thing


def _trained_by(timeline: tl.Timeline, trained: Sequence[ev.Backward], model: Thing) -> set[int]:
    """The ids of the passes that backwards go through; none if some backward does not show through which it goes."""
    runs: dict[int, list[int]] = {}  # node of a call → the serials of the passes that it makes
    for event in trained:
        found = [t for t in depends(event.subject) if isinstance(t.what, Pass) and within(t.what.of, model)]
        if not found:
            return set()
        for run in found:
            if run.place is not None:
                runs.setdefault(id(run.place.node), []).append(run.serial)
    calls: dict[int, list[ev.Forward]] = {}
    for call in timeline.events(ev.Forward):
        if id(call.place.node) in runs:
            calls.setdefault(id(call.place.node), []).append(call)
    chosen: set[int] = set()
    for node, made in calls.items():
        made.sort(key=_serial)
        for serial in runs[node]:
            before = [call for call in made if call.serial < serial]
            chosen.update(id(call) for call in before[-1:] or made)
    return chosen


def _serial(event: ev.Event) -> int:
    return event.serial


def within(thing: Thing, model: Thing) -> bool:
    """Whether it is the model, or a part of it."""
    return thing.core is model or thing.inside(model) or belongs(thing, model)


def _holds(step: ev.Step, model: Thing) -> Answer:
    """Whether a step moves the parameters of a model."""
    optimizer = only(step.subject, Optimizer)
    if optimizer is None:
        return MAYBE
    held = held_by(optimizer)
    if model.parent is not None and not held.unknown and any(model.inside(whole) for whole in held.modules):
        return YES
    return reaches(model, optimizer)


def may_be(subject: Value | None, model: Thing) -> bool:
    """Whether what happens to it may happen to the model: unless it is another one for certain."""
    if subject is None:
        return True
    for option in options(subject):
        thing = option.what.receiver if isinstance(option, Thing) and isinstance(option.what, Super) else option
        if not isinstance(thing, Thing) or not _apart(thing.core, model):
            return True
    return False


def _apart(thing: Thing, model: Thing) -> bool:
    """Whether two are different objects, neither of them a part of the other."""
    if thing.anything:
        return False
    if thing.summary or thing.values or thing.via is not None:
        return isinstance(thing.via, Argument) and isinstance(model.via, Argument) and thing is not model
    if within(thing, model) or within(model, thing):
        return False
    if thing.place is not None and model.place is not None:
        return True
    if thing.parent is not None and model.parent is not None and thing.parent[0] is model.parent[0]:
        return thing.parent[1] != model.parent[1]
    return isinstance(thing.what, Optimizer)
