"""Takes the protocol's machine along every path of a timeline.

A branch splits the states and joins them after it; a loop is gone round until nothing new appears. What counts is
how things are once a loop is under way: an event inside a loop is judged by the states that its second and later
rounds bring, for the first round has no round before it. A breach is certain if every one of these states is one.
"""

from __future__ import annotations

from typing import NamedTuple

from gradcheck_lint import cycle
from gradcheck_lint.cycle import Breach, State
from gradcheck_lint.source import events as ev
from gradcheck_lint.source.holding import MAYBE, NO, YES, reaches
from gradcheck_lint.source.values import Thing, options

States = frozenset[State]
_NONE: States = frozenset()


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
    around: tuple[ev.Step, ...]


class Path:
    """The paths of one optimizer's gradients through a timeline."""

    def __init__(self, timeline: ev.Timeline, optimizer: Thing) -> None:
        self.timeline, self.optimizer = timeline, optimizer
        self.visits: dict[int, Visit] = {}
        self.steady = [True]
        self.around: list[ev.Step] = []
        built = any(e.concerns(optimizer) for e in timeline.events("build"))
        start = State(gradient=cycle.ABSENT) if built else State(gradient=cycle.OUTSIDE, scale=cycle.ENGINE, stepped=True)
        self.final = self.run(timeline.tree, frozenset({start}))

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
                if kind in (cycle.ERASED_STEP, cycle.EMPTY_STEP):
                    rest = [s for s in rest if cycle.advance(s, visit.name, None, visit.how)[1] not in _EMPTY]
                excused = cycle.EXCUSES.get(kind, frozenset())
                rest = [s for s in rest if s.gradient not in excused]
                doubtful = [s for s in rest if s.gradient == cycle.OUTSIDE]
                if len(doubtful) < len(rest):
                    continue
                found.append(
                    Breach(
                        kind, visit.event, self.optimizer,
                        _unique(s.made for s in states), _unique(s.cleared for s in states),
                        visit.around, self.timeline, not doubtful and not self.timeline.hooked,
                    )
                )  # fmt: skip
        return found

    # -- walking

    def run(self, step: ev.Step, states: States) -> Flow:
        if isinstance(step, ev.Event):
            return Flow(self.event(step, states))
        if isinstance(step, ev.Sequence):
            return self.sequence(step, states)
        if isinstance(step, ev.Branch):
            self.around.append(step)
            flows = [self.run(arm, states) for arm in step.arms]
            self.around.pop()
            return Flow(*(frozenset().union(*parts) for parts in zip(*flows, strict=True)))
        if isinstance(step, ev.Loop):
            return self.loop(step, states)
        if isinstance(step, ev.Guarded):
            flow = self.run(step.body, states)
            return Flow(*(self.run(step.final, way).end if way else way for way in flow))
        if isinstance(step, ev.Call):
            self.around.append(step)
            flow = self.run(step.body, states)
            self.around.pop()
            return Flow(flow.end | flow.returns)
        kinds = {"break": 1, "continue": 2, "return": 3}
        out: list[States] = [_NONE, _NONE, _NONE, _NONE]
        if step.kind in kinds:
            out[kinds[step.kind]] = states
        return Flow(*out)

    def sequence(self, step: ev.Sequence, states: States) -> Flow:
        breaks = continues = returns = _NONE
        for inner in step.steps:
            if not states:
                break
            flow = self.run(inner, states)
            states = flow.end
            breaks |= flow.breaks
            continues |= flow.continues
            returns |= flow.returns
        return Flow(states, breaks, continues, returns)

    def loop(self, step: ev.Loop, states: States) -> Flow:
        self.around.append(step)
        if step.once:
            flow = self.run(step.body, states)
            self.around.pop()
            return Flow(flow.end | flow.breaks | flow.continues, _NONE, _NONE, flow.returns)
        self.steady.append(False)
        flow = self.run(step.body, states)
        self.steady[-1] = True
        back = frozenset(cycle.turn(s) for s in flow.end | flow.continues)
        breaks, returns = flow.breaks, flow.returns
        for _ in range(12):
            if not back:
                break
            flow = self.run(step.body, back)
            breaks |= flow.breaks
            returns |= flow.returns
            new = frozenset(cycle.turn(s) for s in flow.end | flow.continues)
            if new <= back:
                break
            back |= new
        self.steady.pop()
        self.around.pop()
        leaves = breaks if step.endless else breaks | states | back
        return Flow(leaves, _NONE, _NONE, returns)

    # -- events

    def event(self, event: ev.Event, states: States) -> States:
        name, how, reach = self.meaning(event)
        if not name or reach == NO:
            return states
        if self.steady[-1] or name == "schedule":
            if reach == YES:
                visit = self.visits.get(id(event))
                if visit is None:
                    visit = self.visits[id(event)] = Visit(event, name, how, set(), tuple(self.around))
                if name == "schedule" and not self.steady[-1]:
                    visit.states.update(states)
                elif name != "schedule" or len(self.steady) == 1:
                    visit.states.update(states)
        after = frozenset(cycle.advance(s, name, event, how)[0] for s in states)
        return after if reach == YES else after | states

    def meaning(self, event: ev.Event) -> tuple[str, str, str]:
        """What an event is to this optimizer: the protocol's name for it, how it is done, and whether it reaches it."""
        kind = event.kind
        if kind == "build":
            return ("build", "", YES) if event.concerns(self.optimizer) else ("", "", NO)
        if kind == "zero":
            return "zero", "", reaches(event.subject, self.optimizer)
        if kind == "backward":
            scaled = event.detail.get("scaled")
            return "backward", cycle.ENGINE if event.detail.get("engine") else cycle.SCALED if scaled else cycle.PLAIN, YES
        if kind == "step":
            if event.concerns(self.optimizer):
                return "step", "scaler" if event.detail.get("scaler") is not None else "", YES
            return ("unknown", "", MAYBE) if any(isinstance(o, Thing) and o.summary for o in options(event.subject)) else ("", "", NO)
        if kind == "unscale":
            return "unscale", "", YES if event.concerns(self.optimizer) else NO
        if kind == "clip":
            reach = reaches(event.subject, self.optimizer)
            return "clip", "", reach
        if kind == "schedule":
            for option in options(event.subject):
                if isinstance(option, Thing) and any(o is self.optimizer for o in options(option.detail.get("optimizer"))):
                    return "schedule", "", YES
            return "", "", NO
        if kind == "grad-write":
            return "unknown", "", YES
        if kind == "unknown":
            if event.subject is None:
                return "unknown", "", MAYBE
            return ("unknown", "", MAYBE) if event.concerns(self.optimizer) else ("", "", NO)
        return "", "", NO


_EMPTY = frozenset({cycle.ERASED_STEP, cycle.EMPTY_STEP})


def _unique(values: object) -> tuple[object, ...]:
    found: list[object] = []
    for value in values:  # type: ignore[attr-defined]
        if value is not None and not any(value is f for f in found):
            found.append(value)
    return tuple(found)
