"""Targets that a network makes for itself, and advantages, through which the loss trains what it should take as given.

A difference that a loss is made of is looked at as a sum of terms: `r + gamma * V(s') - V(s)`. Two of them come of two
runs of one network that is trained. The one that is weighed, and has a reward at its side, is the target.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from gradcheck_lint.facts import query, regone
from gradcheck_lint.facts.effects import effect
from gradcheck_lint.facts.penalties import operations
from gradcheck_lint.facts.reach import Reaching, Term, reaching, terms
from gradcheck_lint.laws import reach as law
from gradcheck_lint.laws.answer import NO, YES
from gradcheck_lint.laws.reach import Effect
from gradcheck_lint.source import events as ev
from gradcheck_lint.source import limits, tree
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source.effort import spend
from gradcheck_lint.source.holding import held_by
from gradcheck_lint.source.natures import Module
from gradcheck_lint.source.operations import How, Operation
from gradcheck_lint.source.place import Place
from gradcheck_lint.source.values import Constant, FunctionValue, Items, Thing, Value, options, things

_FUNCTIONS = frozenset(
    f"torch.nn.functional.{name}" for name in ("mse_loss", "smooth_l1_loss", "l1_loss", "huber_loss")
)
_CLASSES = frozenset(f"torch.nn.{name}" for name in ("MSELoss", "SmoothL1Loss", "L1Loss", "HuberLoss"))
_SQUARES = frozenset({"pow", "square", "abs"})


class Run(NamedTuple):
    """A run of a trained network, or of a part of one, and the call that it comes of where the loss is made.

    Where it is a method of the network that was not followed, `method` is that.
    """

    of: Thing
    place: Place | None
    method: tree.Function | None = None


class Undetached(NamedTuple):
    """A run of a network in a target (or, if `advantage`, in what weighs a log-probability), and the backward."""

    run: Run
    backward: ev.Backward
    advantage: bool
    sure: bool

    @property
    def place(self) -> Place | None:
        return self.run.place


def undetached(timeline: tl.Timeline) -> Iterator[Undetached]:
    """What a loss trains beside what it is meant to train."""
    backs = list(timeline.events(ev.Backward)) if timeline.has(ev.Step) else []
    modules = regone.trained(timeline) if backs else []
    if not modules:
        return
    calm = not timeline.cut and not timeline.has(ev.Freeze)
    told: set[int] = set()
    reach = reaching(timeline)
    for back in backs:
        for made in operations(back.subject):
            found = _compared(made, modules, reach)
            advantage = found is None
            if found is None:
                run = _weighing(timeline, made, modules, reach)
                found = (run, True) if run is not None else None
            if found is None or found[0].place is None or id(found[0].place.node) in told:
                continue
            told.add(id(found[0].place.node))
            yield Undetached(found[0], back, advantage, found[1] and calm)


def _difference(made: Operation) -> list[Term]:
    """The terms of what a loss makes small; the sides of a criterion are one taken from the other."""
    thing = made.base if isinstance(made.base, Thing) else None
    named = made.how is How.FUNCTION and made.name in _FUNCTIONS
    called = made.how is How.CALL and thing is not None and thing.class_name in _CLASSES
    if (named or called) and len(made.args) >= 2:
        other = [term._replace(negative=not term.negative) for term in terms(made.args[1])]
        return [*terms(made.args[0]), *other]
    if made.how is How.METHOD and made.name in _SQUARES:
        return terms(made.base)
    if made.how is How.OPERATOR and made.name == "**":
        return terms(made.args[0])
    return []


def _runs(value: Value | None, modules: list[Thing]) -> list[Run]:
    """The runs of trained networks to which a backward from the value surely comes, nearest first."""
    found: list[Run] = []
    seen: set[int] = set()
    todo: list[tuple[Value, Place | None]] = [(option, None) for option in options(value)]
    while todo and len(seen) < limits.WAY:
        one, place = todo.pop(0)
        spend(2)
        if id(one) in seen or isinstance(one, Constant):
            continue
        seen.add(id(one))
        given: list[Value | None] = []
        if isinstance(one, Items):
            given += one.items[: limits.ALTERNATIVES]
        made = one.made if isinstance(one, Thing) else None
        if isinstance(one, Thing) and made is None and one.parent is not None:
            given += [one.parent[0]] if _goes_on(one.parent[0].made, one.parent[1]) else []
        if made is not None and made.recorded is YES:
            if made.how is How.CALL:
                if isinstance(made.base, Thing) and any(made.base.inside(m) for m in modules):
                    found.append(Run(made.base.core, place or made.place))
            elif made.how is How.CODE and made.inner is not None:
                given, place = [made.inner], place or made.place
            elif made.how is How.CODE:
                base = made.base if isinstance(made.base, FunctionValue) else None
                if base is not None and isinstance(base.receiver, Thing):
                    if any(base.receiver.inside(m) for m in modules):
                        found.append(Run(base.receiver.core, place or made.place, base.function))
            elif made.how is How.ITEM:
                given += [made.base] if isinstance(made.base, Thing) and _goes_on(made.base.made, made.name) else []
            elif made.how is How.JOIN:
                others = [o for o in made.args if not isinstance(o, Constant)]
                given += others if len(others) == 1 else []
            elif effect(made) is Effect.THROUGH:
                given += [made.base, *made.args, *(made.keywords or {}).values()]
        todo += [(option, place) for each in given for option in options(each)]
    return found


def _goes_on(made: Operation | None, index: str) -> bool:
    """Whether an item or an attribute of a result has its graph."""
    if not index.startswith("[") and made is not None and made.how is not How.ITEM and not index.isdigit():
        return index in ("values", "T", "mT", "")
    return made is None or law.of_item(made.name, index.strip("[]")) is Effect.THROUGH


def _compared(made: Operation, modules: list[Thing], reach: Reaching) -> tuple[Run, bool] | None:
    """The run of a network in a target of its own, and whether all speaks for that."""
    found = _difference(made)
    if not 3 <= len(found) <= 8:
        return None
    runs = [_runs(t.value, modules) for t in found]
    for target, ours in zip(found, runs, strict=True):
        if not ours or not _weighed(target):
            continue
        beside = [t for t, r in zip(found, runs, strict=True) if t.negative == target.negative and not r]
        if not any(reach.of(t.value).grad is NO and not isinstance(t.value, Constant) for t in beside):
            continue
        for other, theirs in zip(found, runs, strict=True):
            if other.negative == target.negative or _weighed(other):
                continue
            for run in ours:
                if any(run.of is r.of and run.method is r.method and run.place is not r.place for r in theirs):
                    return run, run.method is None and _ends(target)
    return None


def _weighed(term: Term) -> bool:
    """Whether it is multiplied by something, as by a discount."""
    if term.weights:
        return True
    made = term.value.made if isinstance(term.value, Thing) else None
    return made is not None and made.how is How.OPERATOR and made.name == "*"


def _ends(term: Term) -> bool:
    """Whether it counts only where an episode goes on (`1 - done`), or is the best of several values."""
    for made in operations(term.value):
        if made.how is How.OPERATOR and made.name == "-" and isinstance(made.args[0], Constant):
            return made.args[0].value in (1, 1.0)
        if made.how in (How.METHOD, How.FUNCTION) and made.name.rpartition(".")[2] in ("max", "amax"):
            return True
        if made.how is How.CALL:
            return False
    return False


def _weighing(timeline: tl.Timeline, made: Operation, modules: list[Thing], reach: Reaching) -> Run | None:
    """The run of a network in an advantage, `returns - values`, by which a log-probability is multiplied."""
    if made.how is not How.OPERATOR or made.name != "*" or len(made.args) != 2:
        return None
    for log, weight in (made.args, made.args[::-1]):
        parts = terms(weight) if _log_prob(log) else []
        if len(parts) < 2 or not parts[-1].negative or any(part.negative for part in parts[:-1]):
            continue
        runs = _runs(parts[-1].value, modules)
        if not runs or runs[0].method is not None or any(reach.of(part.value).grad is not NO for part in parts[:-1]):
            continue
        value, policy = runs[0].of, [met for met in reach.of(log).met if isinstance(met.what, Module)]
        for optimizer in timeline.optimizers():
            held = held_by(optimizer).modules
            if _among(value, held) and any(_among(one, held) for one in policy):
                return runs[0]
    return None


def _among(module: Value | None, held: Sequence[Thing]) -> bool:
    return isinstance(module, Thing) and any(module.inside(one) for one in held)


def _log_prob(value: Value) -> bool:
    """Whether a value is a log-probability that a distribution gives, or its negative."""
    for thing in things(value):
        made = thing.made
        while made is not None and made.how is How.OPERATOR and made.name == "-" and len(made.args) == 1:
            inner = made.args[0]
            made = inner.made if isinstance(inner, Thing) else None
        if made is not None and made.how is How.METHOD and made.name == "log_prob":
            return True
    return False


def remarked(place: Place) -> bool:
    """Whether somebody says something about it on its line."""
    return query.remarked(place)
