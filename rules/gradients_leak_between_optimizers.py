"""GL120: a backward for one network also fills another's gradients, and that one's step uses them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gradcheck_lint.facts import query
from gradcheck_lint.facts.leaking import MEANT, USED, clearing, report_leak
from gradcheck_lint.finding import Confidence, Severity
from gradcheck_lint.laws import cycle
from gradcheck_lint.laws.answer import NO, YES
from gradcheck_lint.laws.cycle import State
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.runtime.sightings.order import Leak
from gradcheck_lint.source import events as ev
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source.deps import depends, passes
from gradcheck_lint.source.follow import Path, States, Walk, in_order
from gradcheck_lint.source.holding import Held, held_by, reaches
from gradcheck_lint.source.natures import Module, ran
from gradcheck_lint.source.values import Thing, only

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting

MESSAGE = "gradients leak into another optimizer's step"
WHY = "what `{mine}` holds is trained on the loss of what `{theirs}` holds as well"
_UNUSED = frozenset({cycle.FIRST, cycle.READY})


class GradientsLeakBetweenOptimizers(Rule):
    code = "GL120"
    slug = "gradients-leak-between-optimizers"
    severity = Severity.ERROR
    witnesses = frozenset({"source", "run"})
    watches = (Leak,)
    yields_to = frozenset({("GL106", "optimizer")})

    def on_timeline(self, timeline: tl.Timeline, report: Report) -> None:
        optimizers = [o for o in timeline.optimizers() if o.certain and not o.summary]
        if len(optimizers) < 2 or timeline.hooked or timeline.cut or any(True for _ in timeline.events(ev.Freeze)):
            return
        for optimizer in optimizers:
            others = [o for o in optimizers if o is not optimizer]
            foreign = {}
            for event in timeline.events(ev.Backward):
                other = _reached_by_way_of(event, optimizer, others)
                if other is not None and _Used(timeline, event, other).ever:
                    foreign[id(event)] = other
            if not foreign:
                continue
            path = _Leaks(timeline, optimizer, foreign)
            for step, states in path.steps.values():
                leaks = [s.made if s.gradient in _UNUSED else None for s in in_order(states)]
                if not all(isinstance(leak, _Leak) and leak.own for leak in leaks):
                    continue
                for leak in {id(leak.event): leak for leak in leaks if isinstance(leak, _Leak)}.values():
                    mine, theirs = query.spoken(step), _name(timeline, foreign[id(leak.event)])
                    report(
                        leak.event.place,
                        MESSAGE,
                        label=f"also fills the gradients that `{mine}.step()` uses",
                        why=WHY.format(mine=mine, theirs=theirs),
                        help=clearing(mine),
                        note=MEANT,
                        related=[(USED, step.place)],
                        confidence=Confidence.MEDIUM if leak.mixed else Confidence.HIGH,
                    )

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        assert isinstance(sighting, Leak)
        report_leak(sighting, report, MESSAGE, why=WHY)


class _Used(Walk):
    """Follows the gradients that one backward makes for an optimizer: whether a step of that ever uses them.

    Where they are always cleared before, the backward was not run for it: a discriminator's loss on what was generated
    reaches the generator as well.
    """

    def __init__(self, timeline: tl.Timeline, backward: ev.Event, optimizer: Thing) -> None:
        self.backward, self.optimizer, self.ever = backward, optimizer, False
        heeded = [e for e in timeline.events(ev.Step, ev.Zero) if isinstance(e, ev.Zero) or e.concerns(optimizer)]
        super().__init__(timeline, [backward, *heeded])
        self.run(timeline.tree, frozenset({False}))

    def event(self, event: ev.Event, states: States) -> States:
        if event is self.backward:
            return frozenset({True})
        if isinstance(event, ev.Step) and event.concerns(self.optimizer):
            self.ever = self.ever or True in states
        elif isinstance(event, ev.Zero):
            reach = reaches(event.subject, self.optimizer)
            return states if reach is NO else frozenset({False}) if reach is YES else states | {False}
        return states


class _Leak(NamedTuple):
    """Marks gradients that come from the loss of another network; `own` if such of its own loss are among them.

    `mixed` if its own came first, and no step was taken in between.
    """

    event: ev.Event
    own: bool
    mixed: bool

    @property
    def order(self) -> tuple[int, ...]:
        return (*self.event.order, self.own, self.mixed)


class _Leaks(Path):
    """Follows foreign gradients to the step that uses them."""

    def __init__(self, timeline: tl.Timeline, optimizer: Thing, foreign: dict[int, Thing]) -> None:
        self.foreign = foreign
        self.mine = held_by(optimizer).modules
        self.steps: dict[int, tuple[ev.Step, set[State]]] = {}
        super().__init__(timeline, optimizer)

    def heeded(self) -> list[tl.Part]:
        return [*super().heeded(), *self.timeline.events(ev.Backward)]

    def event(self, event: ev.Event, states: States) -> States:
        if isinstance(event, ev.Step) and event.concerns(self.optimizer) and self.steady[-1]:
            self.steps.setdefault(id(event), (event, set()))[1].update(states)
        if isinstance(event, ev.Backward):
            return frozenset(self.after(event, state) for state in states)
        return super().event(event, states)

    def after(self, event: ev.Event, state: State) -> State:
        """The gradients after a backward, with the mark of what they are a mixture of."""
        result, _ = cycle.advance(state, "backward", event, self.meaning(event)[1])
        waiting = state.gradient in _UNUSED
        leak = state.made if waiting and isinstance(state.made, _Leak) else None
        if id(event) in self.foreign:
            own = waiting and (leak is None or leak.own)
            return result._replace(made=_Leak(event, own, own))
        modules = [t for t in depends(event.subject) if isinstance(t.what, Module)]
        if not modules:
            return result  # a loss of unknown origin
        if any(module.inside(m) for module in modules for m in self.mine):
            if leak is not None and _leads_to(event, self.mine, held_by(self.foreign[id(leak.event)]).modules):
                return state  # each is trained by way of the other: they learn together
            return result._replace(made=leak._replace(own=True)) if leak is not None else result
        return state


def _reached_by_way_of(event: ev.Backward, optimizer: Thing, others: list[Thing]) -> Thing | None:
    """The other optimizer whose network's output goes into this one's, on the way to the loss.

    Nobody's, where this one's network takes part in the loss without that as well: it is its own loss too.
    """
    if event.inputs is not None or only(event.subject) is None:
        return None
    runs = _outer(passes(event.subject), held_by(optimizer))
    sure = [run for run in runs if any(ran(run).of.inside(m) and m.certain for m in held_by(optimizer).modules)]
    for other in others:
        theirs = held_by(other).modules
        if any(_same(m, theirs) for m in held_by(optimizer).modules):
            continue
        by_way = [run for run in runs if any(_same(ran(r).of, theirs) for r in ran(run).given)]
        if len(by_way) == len(runs) and any(run in by_way for run in sure):
            return other
    return None


def _outer(runs: frozenset[Thing], held: Held) -> list[Thing]:
    """The runs of what an optimizer holds, without those of a module's parts inside of its own run."""
    mine = [run for run in runs if _same(ran(run).of, held.modules)]
    modules = {ran(run).of for run in mine}
    return [r for r in mine if not any(m is not ran(r).of and ran(r).of.inside(m) for m in modules)]


def _leads_to(event: ev.Event, mine: tuple[Thing, ...], theirs: tuple[Thing, ...]) -> bool:
    """Whether the output of one network goes into another, on the way to a loss."""
    return any(
        _same(ran(run).of, theirs) and any(_same(ran(r).of, mine) for r in ran(run).given)
        for run in passes(event.subject)
    )


def _same(module: Thing, held: tuple[Thing, ...]) -> bool:
    return any(module.inside(m) or m.inside(module) for m in held)


def _name(timeline: tl.Timeline, optimizer: Thing) -> str:
    """What the code calls an optimizer."""
    for event in timeline.events(ev.Step, ev.Zero):
        if event.concerns(optimizer):
            return query.spoken(event)
    return optimizer.label
