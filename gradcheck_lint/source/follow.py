"""Takes the protocol's machine along every path of a timeline.

A branch splits the states and joins them after it; a loop is gone round until nothing new appears, and a `for` loop
at least once. What counts is how things are once a loop is under way: an event inside a loop is judged by the states
that its second and later rounds bring, for the first round has no round before it. The move of a schedule is the
exception: it is judged by the first round. A breach is certain if every one of the states that count is one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Protocol

from gradcheck_lint.laws import cycle
from gradcheck_lint.laws.answer import MAYBE, NO, YES, Answer
from gradcheck_lint.laws.cycle import State
from gradcheck_lint.source import events as ev
from gradcheck_lint.source import limits, torch_api, tree
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source.breach import Breach
from gradcheck_lint.source.courses import BREAK, CONTINUE, END, RETURN, STRAIGHT, Courses, counting
from gradcheck_lint.source.effort import Stop, spend
from gradcheck_lint.source.holding import reaches, trains
from gradcheck_lint.source.natures import Optimizer, made_by, moves
from gradcheck_lint.source.values import Constant, FunctionValue, Thing, Value, options, things

PROTOCOL = (
    ev.Build, ev.Zero, ev.Backward, ev.Step, ev.Unscale, ev.Clip, ev.Schedule, ev.GradWrite, ev.GradChange, ev.Unknown,
)  # fmt: skip
"""Kinds of events that mean something to the protocol."""

States = frozenset[Any]
_NONE: States = frozenset()
"""Sets: whoever lets one state speak for others, or names what is in them, goes by `in_order`."""

UNSEEN = State(cycle.OUTSIDE, cycle.ENGINE, stepped=True)
"""How the gradients of an optimizer are that comes from elsewhere."""

_CLEARS = "clears"
"""How something unseen happens to gradients, if it looks like clearing: code is named so or has done so when it was
followed, or what they become are zeros, which may get other values later."""

_EXITS = {END: 0, BREAK: 1, CONTINUE: 2, RETURN: 3}


class Ordered(Protocol):
    """What a state may hold as `made` or `cleared`."""

    @property
    def order(self) -> tuple[int, ...]:
        """Where it comes in the order of the code."""
        ...


def in_order(states: Iterable[State]) -> list[State]:
    """States in the order of what made and cleared the gradients; that of a set is another one in each run."""
    return sorted(states, key=lambda s: (_order(s.made), _order(s.cleared), s.gradient, s.scale, s.stepped))


def _order(who: Any) -> tuple[int, ...]:
    ordered: Ordered | None = who
    return ordered.order if ordered is not None else ()


class Flow(NamedTuple):
    """The states in which a step is left: by its end, by break, by continue, by return."""

    end: States
    breaks: States = _NONE
    continues: States = _NONE
    returns: States = _NONE


class Visit(NamedTuple):
    """An event, what it is to the protocol, and the states in which it was met."""

    event: ev.Event
    name: str
    how: str
    states: set[State]
    around: tuple[tl.Part, ...]


class Walk:
    """Takes states along every path of a timeline; a subclass says what an event makes of them.

    `heeded` are the steps that may change a state or ask for it. What is around none of them is not walked through:
    of it only counts how it may be left.
    """

    def __init__(self, timeline: tl.Timeline, heeded: Iterable[tl.Part]) -> None:
        self.timeline, self.courses = timeline, Courses.of(timeline)
        self.live = timeline.around(heeded)
        self.kept: dict[int, list[tl.Part]] = {}  # sequence → its steps that count
        # a loop, and how it was come to → how it was left, and the states met in it
        self.known: dict[tuple[int, States, bool, bool], tuple[Flow, tuple[Any, ...]]] = {}
        self.steady = [True]  # whether what is met now counts, for each loop around it
        self.around: list[tl.Part] = []
        self.caught: list[dict[Any, None]] = []  # the states met in the bodies of the `try` around

    def event(self, event: ev.Event, states: States) -> States:
        """The states after an event."""
        raise NotImplementedError

    def steps_of(self, sequence: tl.Sequence) -> list[tl.Part]:
        """The steps of a sequence that can change a state or the way that is taken."""
        found = self.kept.get(id(sequence))
        if found is None:
            found = self.kept[id(sequence)] = [
                step
                for step in sequence.steps
                if id(step) in self.live
                or (not isinstance(step, ev.Event) and self.courses.through(step) != STRAIGHT)
                or id(step) in self.timeline.raising
            ]
        return found

    def turn(self, state: Any, loop: tl.Loop | None = None) -> Any:
        """The state at the start of the next round of a loop; of one somewhere in a step, if none is named."""
        return state

    def bounded(self, states: States) -> States:
        """The states where paths meet; of very many, only some."""
        return states

    def goes_round(self, loop: tl.Loop) -> bool:
        """Whether what is followed meets more than one round of a loop."""
        return not loop.once

    def run(self, step: tl.Part, states: States) -> Flow:
        spend(1 + len(states) // 2)
        if isinstance(step, ev.Event):
            if self.caught:
                self.caught[-1].update(dict.fromkeys(states))  # what raises has not happened
            return Flow(self.event(step, states))
        if id(step) not in self.live or isinstance(step, tl.Jump):
            return self.passed(step, states)
        if isinstance(step, tl.Sequence):
            return self.sequence(step, states)
        if isinstance(step, tl.Branch):
            self.around.append(step)
            flows = (
                self.attempt(step, states)
                if isinstance(step, tl.Attempt)
                else [self.run(arm, states) for arm in counting(step)]
            )
            self.around.pop()
            return Flow(*(self.bounded(frozenset().union(*parts)) for parts in zip(*flows, strict=True)))
        if isinstance(step, tl.Loop):
            # nested loops come to the ones inside with the same states again and again
            key = id(step), states, self.steady[-1], any(self.steady[1:])
            known = self.known.get(key)
            if known is None:
                self.caught.append({})
                left = self.loop(step, states)
                known = self.known[key] = left, tuple(self.caught.pop())
            left, met = known
            if self.caught:
                self.caught[-1].update(dict.fromkeys(met))
            return left
        if isinstance(step, tl.Guarded):
            flow = self.run(step.body, states)
            return Flow(*(self.run(step.final, way).end if way else way for way in flow))
        assert isinstance(step, tl.Call)
        self.around.append(step)
        flow = self.run(step.body, states)
        self.around.pop()
        return Flow(flow.end | flow.returns)

    def attempt(self, step: tl.Attempt, states: States) -> list[Flow]:
        """What comes of a `try`: its handlers are reached from wherever the body may raise.

        That is before each event, which has not happened then, and where the code says `raise`; behind the last event
        nothing is left that is known to fail.
        """
        self.caught.append(dict.fromkeys(states))
        body = self.run(step.arms[0], states)
        caught = self.caught.pop()
        if self.caught:
            self.caught[-1].update(caught)
        return [body, *[self.run(arm, frozenset(caught)) for arm in step.arms[1:]]]

    def passed(self, step: tl.Part, states: States) -> Flow:
        """The states after a step in which nothing happens that counts."""
        if self.caught and id(step) in self.timeline.raising:
            self.caught[-1].update(dict.fromkeys(states))
        out: list[States] = [_NONE, _NONE, _NONE, _NONE]
        for exit, late in self.courses.through(step):
            out[_EXITS[exit]] |= frozenset(map(self.turn, states)) if late else states
        return Flow(*out)

    def sequence(self, step: tl.Sequence, states: States) -> Flow:
        breaks = continues = returns = _NONE
        for inner in self.steps_of(step):
            if not states:
                break
            if isinstance(inner, ev.Event):  # most are: the same as `run`, without a flow for each
                spend(1 + len(states) // 2)
                if self.caught:
                    self.caught[-1].update(dict.fromkeys(states))
                states = self.event(inner, states)
                continue
            flow = self.run(inner, states)
            states = flow.end
            if flow.breaks or flow.continues or flow.returns:
                breaks = self.bounded(breaks | flow.breaks)
                continues = self.bounded(continues | flow.continues)
                returns = self.bounded(returns | flow.returns)
        return Flow(states, breaks, continues, returns)

    def loop(self, step: tl.Loop, states: States) -> Flow:
        self.around.append(step)
        if not self.goes_round(step):
            flow = self.run(step.body, states)
            self.around.pop()
            if isinstance(step, tl.Turn):
                return Flow(flow.end | flow.continues, _NONE, _NONE, flow.returns | flow.breaks)
            return Flow(flow.end | flow.breaks | flow.continues, _NONE, _NONE, flow.returns)
        self.steady.append(False)
        flow = self.run(step.body, states)
        self.steady[-1] = True
        back = frozenset(self.turn(s, step) for s in flow.end | flow.continues)
        breaks, returns = flow.breaks, flow.returns
        if not back:
            self.run(step.body, states)
        for _ in range(12):
            if not back:
                break
            flow = self.run(step.body, back)
            breaks |= flow.breaks
            returns |= flow.returns
            new = frozenset(self.turn(s, step) for s in flow.end | flow.continues)
            if new <= back:
                break
            back = self.bounded(back | new)
        self.steady.pop()
        self.around.pop()
        leaves = breaks if step.endless else breaks | back
        if isinstance(step.node, tree.While) and not step.endless:
            leaves |= states
        return Flow(leaves, _NONE, _NONE, returns)


class Path(Walk):
    """The paths of one optimizer's gradients through a timeline."""

    def __init__(self, timeline: tl.Timeline, optimizer: Thing) -> None:
        self.timeline, self.optimizer = timeline, optimizer
        self.visits: dict[int, Visit] = {}
        self.order: dict[int, int] = {}  # event → its number, once that is asked for
        self.meanings: dict[int, tuple[str, str, Answer]] = {}
        self.unsteady = self.chosen_anew()
        super().__init__(timeline, self.heeded())
        self.maker = self.handed_over()
        self.built = any(e.concerns(optimizer) for e in timeline.events(ev.Build))
        self.start = State(cycle.ABSENT) if self.built else UNSEEN
        self.renewing = self.renewed()
        self.sure = not (timeline.hooked or timeline.skipped)
        self.stopped = False  # it was too much work: only the visits that can be told about are left
        try:
            self.final = self.run(timeline.tree, frozenset({self.start}))
        except Stop:
            self.stopped = True
            under_way = {id(step) for step in self.around if isinstance(step, tl.Loop)}
            self.visits = {
                key: visit
                for key, visit in self.visits.items()
                if not any(id(step) in under_way for step in visit.around)
            }

    def heeded(self) -> list[tl.Part]:
        """The steps that may matter: the events that mean something to the optimizer."""
        found: list[tl.Part] = []
        for event in self.timeline.events(*PROTOCOL):
            spend(1)
            meaning = self.meaning(event)
            if meaning[2] is not NO:
                self.meanings[id(event)] = meaning
                found.append(event)
        return found

    def chosen_anew(self) -> bool:
        """Whether it is one of several, chosen in more ways than one: `first if flip else second`, and the reverse."""
        mine = (e for e in self.timeline.events(ev.Step, ev.Unscale) if _several(e) and e.concerns(self.optimizer))
        return len({tuple(thing.serial for thing in things(event.subject)) for event in mine}) > 1

    def handed_over(self) -> tl.Part | None:
        """What makes the object of a method that leaves the backward to others: they may run it before the call."""
        timeline = self.timeline
        if timeline.owner is None or timeline.entry is None or timeline.entry.name == "__init__":
            return None
        runs = (self.meanings.get(id(e), ("", "", NO))[2] for e in timeline.events(ev.Backward))
        return None if YES in runs else next(iter(timeline.tree.steps), None)

    def sequence(self, step: tl.Sequence, states: States) -> Flow:
        flow = super().sequence(step, states)
        if step is not self.maker:
            return flow
        return flow._replace(end=frozenset(_handed(state) for state in flow.end))

    def goes_round(self, loop: tl.Loop) -> bool:
        return not loop.once and id(self.optimizer) not in loop.elements  # `for optimizer in …` comes to each one once

    def breaches(self) -> list[Breach]:
        """The places at which the protocol is broken whatever path is taken."""
        found: list[Breach] = []
        for visit in self.visits.values():
            by_kind: dict[str, list[State]] = {}
            others: list[State] = []
            for state in visit.states:
                if state.gradient == cycle.ABSENT:
                    continue
                _, kind = cycle.advance(state, visit.name, None, visit.how)
                if kind is None:
                    others.append(state)
                else:
                    by_kind.setdefault(kind, []).append(state)
            for kind, states in sorted(by_kind.items()):
                rest = [s for k, v in by_kind.items() if k != kind for s in v] + others
                also = _ALSO.get(kind, frozenset())
                rest = [s for s in rest if cycle.advance(s, visit.name, None, visit.how)[1] not in also]
                excused = cycle.EXCUSES.get(kind, frozenset())
                rest = [s for s in rest if s.gradient not in excused]
                doubtful = [s for s in rest if s.gradient == cycle.OUTSIDE]
                if len(doubtful) < len(rest) or (doubtful and kind in _BACKWARD_LACKING):
                    continue
                found.append(
                    Breach(
                        kind, visit.event, self.optimizer,
                        _unique(s.made for s in states), _unique(s.cleared for s in states),
                        visit.around, self.timeline,
                        self.sure and not doubtful and not _unfinished(visit.around),
                    )
                )  # fmt: skip
        return found

    def next_call(self) -> list[Breach]:
        """The stale steps that a second call of the same method brings, if nothing clears between the two."""
        self.visits.clear()
        self.known.clear()
        states = self.final.end
        for step in self.timeline.tree.steps[1:]:  # the first makes the instance
            states = self.run(step, states).end
        return [breach for breach in self.breaches() if breach.kind == cycle.STALE_STEP]

    def turn(self, state: State, loop: tl.Loop | None = None) -> State:
        return self.start if id(loop) in self.renewing else cycle.turn(state)

    def renewed(self) -> set[int]:
        """The ids of the loops that have another optimizer in each round.

        Code that was not seen gives it there, as it seems; or it is made on some paths, and others on the rest.
        """
        found: set[int] = set()
        for event in self.timeline.events(ev.Build if self.built else ev.Assign):
            if any(option is self.optimizer for option in options(event.subject)):
                found |= self.loops(event)
        if not self.built:
            return found
        rivals = {o for e in self.timeline.events(ev.Step) if e.concerns(self.optimizer) for o in options(e.subject)}
        rivals.discard(self.optimizer)
        made = {e.subject: self.loops(e) for e in self.timeline.events(ev.Build) if e.subject in rivals}
        return found.intersection(*made.values()) if made and len(made) == len(rivals) else set()

    def loops(self, event: ev.Event) -> set[int]:
        """The ids of the loops around an event in whose rounds the optimizer was not there before."""
        made = self.optimizer.root.serial
        around = (step for step, _ in self.timeline.path(event))
        return {id(s) for s in around if isinstance(s, tl.Loop) and not s.once and s.start <= made}

    def bounded(self, states: States) -> States:
        """Of states that differ in what they were made and cleared by only, the earliest ones where there are many."""
        if len(states) <= limits.STATES:
            return states
        if not self.order:
            self.order = {id(event): index for index, event in enumerate(self.timeline.events())}
        alike: dict[tuple[object, ...], list[State]] = {}
        for state in states:
            made, cleared = state.made, state.cleared
            key = (state.gradient, state.scale, state.stepped, made is None, cleared is None)
            alike.setdefault(key, []).append(state)
        spend(len(states))
        return frozenset(s for group in alike.values() for s in sorted(group, key=self.age)[: limits.HISTORIES])

    def age(self, state: State) -> tuple[int, int]:
        """How early what made and cleared the gradients stands in the code."""
        return self.order.get(id(state.made), -1), self.order.get(id(state.cleared), -1)

    def event(self, event: ev.Event, states: States) -> States:
        meaning = self.meanings.get(id(event))
        if meaning is None:
            return states
        name, how, reach = meaning
        judged = not any(self.steady[1:]) if name == "schedule" else self.steady[-1]
        if judged and reach is YES:
            visit = self.visits.get(id(event))
            if visit is None:
                visit = self.visits[id(event)] = Visit(event, name, how, set(), tuple(self.around))
            visit.states.update(states)
        after = frozenset([cycle.advance(s, name, event, how)[0] for s in states])
        if how == _CLEARS:
            after |= frozenset(cycle.advance(s, "zero")[0] for s in states)
        return self.bounded(after if reach is YES else after | states)

    def meaning(self, event: ev.Event) -> tuple[str, str, Answer]:
        """What an event is to this optimizer: the protocol's name for it, how it is done, and whether it reaches it."""
        if isinstance(event, ev.Build):
            return ("build", "", YES) if event.concerns(self.optimizer) else ("", "", NO)
        if isinstance(event, ev.Zero):
            return "zero", "", reaches(event.subject, self.optimizer)
        if isinstance(event, ev.Backward):
            how = cycle.ENGINE if event.engine else cycle.SCALED if event.scaled else cycle.PLAIN
            return "backward", how, trains(event.subject, self.optimizer)
        if isinstance(event, ev.Step):
            if event.concerns(self.optimizer):
                what = self.optimizer.what
                wrapper = isinstance(what, Optimizer) and what.wrapper
                if wrapper or not _followed(event.closure):
                    return "unknown", "", YES
                how = "scaler" if event.scaler is not None else ""
                return "step", how, MAYBE if self.unsteady and _several(event) else YES
            return ("unknown", "", MAYBE) if _whichever(event.subject) else ("", "", NO)
        if isinstance(event, ev.Unscale):
            if event.concerns(self.optimizer):
                return "unscale", "", MAYBE if self.unsteady and _several(event) else YES
            return "unscale", "", MAYBE if _whichever(event.subject) else NO
        if isinstance(event, ev.Clip):
            reach = reaches(event.subject, self.optimizer)
            sole = reach is MAYBE and len(self.timeline.optimizers()) == 1
            return "clip", "", YES if sole else reach
        if isinstance(event, ev.Schedule):
            moved = [o for t in things(event.subject) for o in options(moves(t))]
            if not any(o is self.optimizer for o in moved):
                return "", "", NO
            return "schedule", "", YES if len(moved) == 1 else MAYBE  # `[StepLR(o, 10) for o in optimizers][0]`
        if isinstance(event, ev.GradWrite):
            return "unknown", _CLEARS if _zeros(event.value) else "", YES
        if isinstance(event, ev.GradChange):
            return "write", "", YES
        if isinstance(event, ev.Unknown):
            if event.subject is not None and reaches(event.subject, self.optimizer) is NO:
                return "", "", NO
            clears = event.clears or torch_api.CLEARS.search(event.name)
            return "unknown", _CLEARS if clears else "", YES if event.sure else MAYBE
        return "", "", NO


def breaches(timeline: tl.Timeline, optimizer: Thing, others: Iterable[tl.Timeline]) -> tuple[list[Breach], bool]:
    """Where a timeline breaks the protocol for an optimizer, and whether all paths were followed to their end.

    A method is called again and again: if its class makes the optimizer and nothing in any timeline clears it, then
    each call but the first meets the gradients of the one before.
    """
    path = Path(timeline, optimizer)
    found = path.breaches()
    if path.stopped:
        return [breach._replace(certain=False) for breach in found], False
    if not any(event.concerns(optimizer) for event in _made_by_owner(timeline)):
        return found, True
    try:
        more = [b for b in path.next_call() if not any(b.event is f.event and b.kind == f.kind for f in found)]
        cleared = _cleared(optimizer, others) if more else YES
    except Stop:
        return [breach._replace(certain=False) for breach in found], False
    if cleared is YES:
        return found, True
    return found + [b._replace(certain=b.certain and cleared is NO) for b in more], True


def needs_others(timeline: tl.Timeline) -> bool:
    """Whether `breaches` asks what the other timelines do, so that it has to wait until all are there."""
    return any(True for _ in _made_by_owner(timeline))


def _made_by_owner(timeline: tl.Timeline) -> Iterator[ev.Event]:
    """What the object of a method that is called again and again has made of optimizers when it was made itself."""
    owner, opening = timeline.owner, timeline.opening
    if owner is None or not owner.closed or timeline.entry is None or timeline.entry.name.startswith("__"):
        return
    for kind, events in opening.kinds.items() if opening is not None else ():
        if issubclass(kind, ev.Build):
            for _, event in events:
                if any(isinstance(thing.what, Optimizer) for thing in things(event.subject)):
                    yield event


def _whichever(subject: Value | None) -> bool:
    """Whether it does not show which optimizer it is."""
    return any(thing.summary or not isinstance(thing.what, Optimizer) for thing in things(subject))


def _several(event: ev.Event) -> bool:
    return sum(1 for _ in things(event.subject)) > 1


def _zeros(value: Value | None) -> bool:
    """Whether a tensor was made of zeros."""
    made = [made_by(option) for option in options(value) if isinstance(option, Thing)]
    return bool(made) and all(by in ("zeros", "zeros_like") for by in made)


def _handed(state: State) -> State:
    """What the gradients may be when a method is called, by how they were when the object had been made."""
    idle = state.gradient in (cycle.FRESH, cycle.CLEAN)
    return state._replace(gradient=cycle.HANDED, scale=cycle.ENGINE) if idle else state


def _cleared(optimizer: Thing, timelines: Iterable[tl.Timeline]) -> Answer:
    """Whether anything in the timelines clears or writes the gradients of an optimizer: MAYBE if unseen code may."""
    unseen = NO
    for timeline in timelines:
        if timeline.cut:
            unseen = MAYBE
        for event in timeline.clearing:
            spend(1)
            if isinstance(event, ev.Unknown):
                if event.subject is None or reaches(event.subject, optimizer) is not NO:
                    unseen = MAYBE
            elif isinstance(event, ev.GradWrite) or reaches(event.subject, optimizer) is not NO:
                return YES
    return unseen


def _unfinished(around: Iterable[tl.Part]) -> bool:
    """Whether what is around an event was cut short, so that a later round may bring what was not looked at.

    What is in no such loop has come before the cut, and nothing behind that can change it.
    """
    return any(isinstance(step, tl.Loop) and step.unfinished for step in around)


def _followed(closure: Value | None) -> bool:
    """Whether what a step is given to call is known: it has run before the step, or there is none."""
    return all(isinstance(o, FunctionValue) or (isinstance(o, Constant) and o.value is None) for o in options(closure))


_ALSO = {
    cycle.ERASED_STEP: frozenset({cycle.EMPTY_STEP}),
    cycle.EMPTY_STEP: frozenset({cycle.ERASED_STEP}),
    cycle.STALE_STEP: frozenset({cycle.EMPTY_STEP}),
}
"""What else may be broken on the other paths without making a breach any less certain."""


_BACKWARD_LACKING = frozenset({cycle.EMPTY_STEP, cycle.ERASED_STEP, cycle.EMPTY_CLIP})
"""What is broken by a backward that is not there: where unseen code ran on the way, it will have been in that code."""


def _unique(values: Iterable[Any]) -> tuple[Any, ...]:
    """The values that are something, each once, in the order of the code."""
    return tuple(sorted({id(value): value for value in values if value is not None}.values(), key=_order))
