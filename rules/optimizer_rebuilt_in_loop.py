"""GL114: an optimizer, scheduler or scaler is built anew in each turn of the training loop."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gradcheck_lint.facts import query
from gradcheck_lint.finding import Confidence, Severity
from gradcheck_lint.laws.clock import Built, Turn, loses
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.runtime.sightings.clock import BuiltAnew
from gradcheck_lint.source import events as ev
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source import torch_api, tree
from gradcheck_lint.source.holding import held_by
from gradcheck_lint.source.natures import Module, Optimizer, Scaler, Scheduler
from gradcheck_lint.source.values import Constant, Items, Thing, only

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting

LONG = 200  # steps of each after which to start cold may be what is meant

LOSES = {
    Built.OPTIMIZER: "its running averages and momentum start from nothing each time",
    Built.SCHEDULER: "it never gets past the beginning of its schedule",
    Built.SCALER: "its scale goes back to where it began, and never adapts",
}

_COLD = frozenset(
    "fold seed stage phase task trial run model net agent client member experience domain session split repeat restart"
    " layer level scale lr rate width cycle generation round config cfg param parameter group exp experiment".split()
)
"""Names for what a loop goes over, if each turn of it begins a training of its own."""

_EPOCH = re.compile(r"(?i)epoch|^ep$|^e$")


class OptimizerRebuiltInLoop(Rule):
    code = "GL114"
    slug = "optimizer-rebuilt-in-loop"
    severity = Severity.WARNING
    witnesses = frozenset({"source", "run"})
    needs = (ev.Build,)
    watches = (BuiltAnew,)

    def on_timeline(self, timeline: tl.Timeline, report: Report) -> None:
        located: list[tuple[ev.Event, tuple[tl.Part, ...]]] = []
        for event, around in timeline.located(ev.Build):
            thing = only(event.subject)
            what = _built(thing)
            if thing is None or what is None or not _remembers(thing):
                continue
            turns = [loop for loop in query.loops(around) if isinstance(loop.node, (tree.For, tree.While))]
            if not turns or not query.always(query.inside(around, turns[-1])):
                continue
            loop = turns[-1]
            located = located or list(timeline.located())
            uses = [(e, a) for e, a in located if loop in a and _used(e, thing)]
            if not uses or not all(query.always(query.inside(a, loop)) for _, a in uses[:1]):
                continue
            if not _lasting(thing, loop) or _starts_over(located, loop, thing):
                continue
            each = all(query.loops(a)[-1] is loop for _, a in uses)
            targets, words = _words(loop.node)
            telling = targets if any(len(word) > 2 for word in targets) else words
            epochs = any(_EPOCH.search(word) for word in (*targets, *telling))
            if any(_cold(word) for word in telling) and not any(_EPOCH.search(word) for word in targets):
                continue
            same = all(_over_the_same(a, loop) for _, a in uses)  # the data of each turn are those of the last one
            if not each and not epochs and not same:
                continue
            sure = not timeline.cut and not (isinstance(thing.what, Optimizer) and held_by(thing).unknown)
            sure = sure and loses(what, Turn.STEP if each else Turn.EPOCH) and (each or epochs)
            report(
                event.place,
                f"this {what.value} is built anew in each turn of the loop",
                label=f"is built again in each {'epoch' if epochs else 'turn'}, for what the last one has trained",
                why=LOSES[what],
                help=f"build the {what.value} once, before the loop",
                note="a training that is meant to start cold in each round is legitimate",
                related=[("in this loop", loop.place)] if loop.place.chunk is event.place.chunk else [],
                confidence=Confidence.HIGH if sure else Confidence.MEDIUM,
            )

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        assert isinstance(sighting, BuiltAnew)
        what = sighting.what
        each = "1 step" if sighting.steps <= 1 else f"at most {sighting.steps} steps"
        report(
            f"this {what.value} is built anew in each turn of the loop",
            label=f"built {sighting.times} of them in a row for the same, each used for {each}",
            why=LOSES[what],
            help=f"build the {what.value} once, before the loop"
            + (", and let a scheduler lower the rate" if sighting.falling else ""),
            note="a training that is meant to start cold in each round is legitimate",
            related=[("the step", sighting.stepped)],
            confidence=Confidence.MEDIUM if sighting.steps > LONG else Confidence.HIGH,
        )


def _built(thing: Thing | None) -> Built | None:
    kinds = {Optimizer: Built.OPTIMIZER, Scheduler: Built.SCHEDULER, Scaler: Built.SCALER}
    return next((built for kind, built in kinds.items() if thing is not None and isinstance(thing.what, kind)), None)


def _remembers(thing: Thing) -> bool:
    """Whether it keeps something from one step to the next."""
    args = thing.args
    if args is None or args.open:
        return False
    if isinstance(thing.what, Scaler):
        return "enabled" not in args.keywords
    if isinstance(thing.what, Scheduler):
        return bool(query.torch_class(thing)) and "last_epoch" not in args.keywords
    name = query.torch_class(thing)
    if name in torch_api.STATELESS_DEFAULT:
        momentum = args.get(2, "momentum")
        return isinstance(momentum, Constant) and momentum.value not in (0, ..., None)
    return bool(name)


def _used(event: ev.Event, thing: Thing) -> bool:
    """Whether the event moves it on."""
    if isinstance(thing.what, Scaler):
        return isinstance(event, ev.Step) and only(event.scaler) is thing
    return (
        isinstance(event, ev.Schedule if isinstance(thing.what, Scheduler) else ev.Step)
        and only(event.subject) is thing
    )


def _lasting(thing: Thing, loop: tl.Loop) -> bool:
    """Whether what it works for was there before the round of the loop."""
    if isinstance(thing.what, Scaler):
        return True
    if isinstance(thing.what, Scheduler):
        optimizer = only(thing.what.optimizer, Optimizer)
        return optimizer is not None and optimizer.serial < loop.start
    held = held_by(thing)
    parts = [*held.modules, *held.tensors]
    return bool(parts) and all(part.root.serial < loop.start and not part.summary for part in parts)


def _starts_over(located: Sequence[tuple[ev.Event, tuple[tl.Part, ...]]], loop: tl.Loop, thing: Thing) -> bool:
    """Whether something else in the loop begins anew as well: weights put back, layers frozen, a model replaced."""
    for event, around in located:
        if loop not in around:
            continue
        if isinstance(event, (ev.LoadState, ev.Freeze, ev.AddGroup)):
            return True
        if isinstance(event, (ev.Build, ev.Rebind)) and any(isinstance(t.what, Module) for t in _subjects(event)):
            return True
    return False


def _subjects(event: ev.Event) -> list[Thing]:
    thing = only(event.subject)
    return [thing] if thing is not None else []


def _cold(word: str) -> bool:
    """Whether a part of a name says that a training begins: `n_folds`, `learningRate`, and not `enumerate`."""
    parts = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", word)
    return any(part.lower() in _COLD or part.lower().removesuffix("s") in _COLD for part in parts)


def _over_the_same(around: Sequence[tl.Part], loop: tl.Loop) -> bool:
    """Whether what is in a loop goes over data that were there before it, directly below it."""
    inner = query.loops(query.inside(around, loop))
    if len(inner) != 1:
        return False
    data = inner[0].over
    while isinstance(data, Items) and data.serial >= loop.start:
        data = data.over  # `enumerate(batches)` is new in each turn, and `batches` is not
    return isinstance(data, (Items, Thing)) and data.serial < loop.start


def _words(node: tree.Node) -> tuple[list[str], list[str]]:
    """The names in the head of a loop: those that it binds, and all."""
    if isinstance(node, tree.For):
        targets, heads = list(node.target.walk()), [*node.target.walk(), *node.iter.walk()]
    else:
        assert isinstance(node, tree.While)
        targets, heads = [], list(node.test.walk())
    return [w for w in _names(targets) if w.strip("_")], _names(heads)


def _names(nodes: Iterable[tree.Node]) -> list[str]:
    return [tree.last_name(n) for n in nodes if isinstance(n, (tree.Name, tree.Attribute))]
