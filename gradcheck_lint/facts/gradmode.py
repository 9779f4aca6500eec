"""Grad mode that is switched off and never on again, and contexts that are named or called and never entered.

A call of `set_grad_enabled(False)` that is a statement is taken along the paths that lead on from it, as `modes` does
with `eval()`: to the passes through which a backward goes. What stands in a block that switches by itself is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from gradcheck_lint.facts.query import asked
from gradcheck_lint.laws.answer import NO, YES
from gradcheck_lint.laws.mode import EITHER, OFF, Since, lasts, records
from gradcheck_lint.source import events as ev
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source import tree
from gradcheck_lint.source.deps import depends
from gradcheck_lint.source.effort import spend
from gradcheck_lint.source.follow import States, Walk
from gradcheck_lint.source.natures import Pass
from gradcheck_lint.source.values import ClassValue, External, FunctionValue, Thing

if TYPE_CHECKING:
    from gradcheck_lint.facts.definitions import DefinitionFacts
    from gradcheck_lint.source.place import Place


class SwitchedOff(NamedTuple):
    """Grad mode is switched off, and a pass of the training meets it so."""

    off: ev.GradMode
    trained: ev.Forward


def switched_off(timeline: tl.Timeline) -> Iterator[SwitchedOff]:
    """The switches after which the training goes on, on every path, before grad mode is on again."""
    if timeline.cut or timeline.hooked or not timeline.has(ev.Step):
        return
    offs = [e for e in timeline.events(ev.GradMode) if e.on is False and not e.context & (OFF | EITHER)]
    trained = _trained(timeline) if offs else []
    done: set[int] = set()
    for off in offs:
        if id(off.place.node) in done:
            continue
        around = [part for part, _ in timeline.path(off)]
        scopes = [part for part in reversed(around) if isinstance(part, tl.Loop) and not part.once]
        for scope in (*scopes, None):
            inside = [event for event, parts in trained if _free(parts, around, scope)]
            if not inside:
                continue
            walk = _Round(timeline, off, inside)
            walk.run(scope if scope is not None else timeline.tree, frozenset({Since.BEFORE}))
            met = next((event for event in inside if lasts(walk.met.get(id(event), ())) is YES), None)
            if met is not None:
                done.add(id(off.place.node))
                yield SwitchedOff(off, met)
            break


def _free(parts: tuple[tl.Part, ...], around: list[tl.Part], scope: tl.Loop | None) -> bool:
    """Whether a pass is in a loop, and under no test of the same thing as the switch."""
    return (scope is None or scope in parts) and not asked(parts, scope) & asked(around, scope)


def _trained(timeline: tl.Timeline) -> list[tuple[ev.Forward, tuple[tl.Part, ...]]]:
    """The passes through which a backward goes, where no block says how grad mode is in them."""
    runs: dict[int, list[int]] = {}
    for event in timeline.events(ev.Backward):
        for thing in depends(event.subject):
            if isinstance(thing.what, Pass) and thing.place is not None:
                runs.setdefault(id(thing.place.node), []).append(thing.serial)
    calls: dict[int, list[tuple[ev.Forward, tuple[tl.Part, ...]]]] = {}
    for call, around in timeline.located(ev.Forward) if runs else ():
        if id(call.place.node) in runs and not call.context & (OFF | EITHER):
            calls.setdefault(id(call.place.node), []).append((call, around))
    found: dict[int, tuple[ev.Forward, tuple[tl.Part, ...]]] = {}
    for node, made in calls.items():
        made.sort(key=_serial)
        for serial in runs[node]:
            before = [one for one in made if one[0].serial < serial]
            found.update({id(one[0]): one for one in before[-1:]})
    return list(found.values())


def _serial(located: tuple[ev.Forward, tuple[tl.Part, ...]]) -> int:
    return located[0].serial


class _Round(Walk):
    """Takes one switch along the paths that lead on from it, to the passes of the training."""

    def __init__(self, timeline: tl.Timeline, off: ev.GradMode, trained: list[ev.Forward]) -> None:
        self.off = off
        self.trained = {id(event) for event in trained}
        self.met: dict[int, set[Since]] = {}
        super().__init__(timeline, (*trained, *timeline.events(ev.GradMode, ev.Unknown)))

    def event(self, event: ev.Event, states: States) -> States:
        spend(1)
        if id(event) in self.trained:
            self.met.setdefault(id(event), set()).update(states)
            return states
        if event is self.off:
            return frozenset({Since.LEFT})
        if isinstance(event, ev.GradMode) and event.on is False:
            return states  # another switch, which is asked by itself
        return frozenset(s if s is Since.BEFORE else Since.BACK for s in states)


class Unrecorded(NamedTuple):
    """A backward through passes that nothing has recorded: a pass in the same block, or a `forward` decorated so."""

    backward: ev.Backward
    passed: Place
    decorated: str


def unrecorded(timeline: tl.Timeline) -> Iterator[Unrecorded]:
    """The backwards whose passes were all made where nothing is recorded, and not in a block that goes around them."""
    idle: list[ev.Forward] = []
    for event in timeline.events(ev.Forward, ev.Backward):
        spend(1)
        if isinstance(event, ev.Forward):
            idle += [event] if records(event.context) is NO else []
            continue
        loss = event.subject
        if not isinstance(loss, Thing) or loss.place is None or event.context & (EITHER | {"try"}):
            continue
        runs = [thing for thing in depends(loss) if isinstance(thing.what, Pass)]
        names = [_decorated(run) for run in runs]
        if runs and all(names):
            place = min(runs, key=_made).place
            if place is not None:
                yield Unrecorded(event, place, names[0])
        elif not runs and event.context & OFF:
            beside = [f for f in idle if f.function is event.function and f.serial < loss.serial]
            if beside:
                yield Unrecorded(event, beside[-1].place, "")


def _made(run: Thing) -> int:
    return run.serial


def _decorated(run: Thing) -> str:
    """What the `forward` of the module that was run is decorated with, so that nothing is recorded in it."""
    cls = run.what.of.core.cls if isinstance(run.what, Pass) else None
    forward = cls.member("forward") if isinstance(cls, ClassValue) else None
    for decorator in forward.function.decorators if isinstance(forward, FunctionValue) else ():
        if tree.last_name(decorator) in OFF:
            return tree.last_name(decorator)
    return ""


class NotEntered(NamedTuple):
    """A context that has no effect: it is `called` as a statement, or named in a `with` without a call."""

    place: Place
    name: str
    called: bool


def not_entered(definition: DefinitionFacts) -> Iterator[NotEntered]:
    """The contexts of grad mode in a function that are not entered."""
    import libcst as cst
    import libcst.matchers as m

    context = m.Name(value=m.MatchIfTrue(NAMES.__contains__))
    named = context | m.Attribute(attr=context)
    for node in m.findall(definition.tree, m.Expr(value=m.Call(func=named, args=[]))):
        call = cst.ensure_type(cst.ensure_type(node, cst.Expr).value, cst.Call)
        events = [e for e in definition.events(call) if isinstance(e, ev.TorchCall)]
        if events and all(event.name.rpartition(".")[2] in NAMES for event in events):
            yield NotEntered(definition.place(call), events[0].name.rpartition(".")[2], called=True)
    for item in m.findall(definition.tree, m.WithItem(item=named)):
        expression = cst.ensure_type(item, cst.WithItem).item
        values = definition.values(expression)
        names = {value.name for value in values if isinstance(value, External)}
        if values and len(names) == 1 and all(isinstance(value, External) for value in values):
            name = names.pop()
            if name.startswith("torch.") and name.rpartition(".")[2] in NAMES:
                yield NotEntered(definition.place(expression), name.rpartition(".")[2], called=False)


NAMES = OFF | {"enable_grad"}
"""Contexts of grad mode that are made without an argument."""
