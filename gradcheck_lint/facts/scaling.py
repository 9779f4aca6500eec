"""The gradient scaler that a breach is about, and the scale that it starts with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from gradcheck_lint.facts import query
from gradcheck_lint.facts.gates import modulo
from gradcheck_lint.laws.answer import NO
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source import tree
from gradcheck_lint.source.events import Backward, Event, Step, Unscale, Update
from gradcheck_lint.source.holding import trains
from gradcheck_lint.source.natures import LossScaled, Optimizer, Scaler, nature
from gradcheck_lint.source.place import Place
from gradcheck_lint.source.values import Thing, only, things

_DEFAULT = "65536"  # torch's own


def scaling(made: Iterable[Event]) -> Thing | None:
    """The scaler whose scaled loss some backwards ran on."""
    for event in made:
        for loss in things(event.subject, LossScaled):
            scaled = nature(loss, LossScaled)
            scaler = only(scaled.scaler, Scaler) if scaled is not None else None
            if scaler is not None:
                return scaler
    return None


def initial(scaler: Thing | None) -> str:
    """The scale that a scaler starts with, as the code writes it; "" if it does not say."""
    place = scaler.place if scaler is not None and scaler.certain else None
    if place is None or not isinstance(place.node, tree.Call):
        return ""
    for argument in place.node.args:
        if argument.keyword == "init_scale":
            return " ".join(Place(place.chunk, argument.value).code.split())
        if argument.star or (argument.keyword is None and not _device(argument.value)):
            return ""
    return _DEFAULT


def at_start(scaler: Thing | None) -> str:
    """What to add to "the loss scale", where the code says with which one the scaler starts."""
    scale = initial(scaler)
    return f", {scale} at the start" if scale else ""


def _device(node: tree.Expression) -> bool:
    return isinstance(node, tree.Constant) and isinstance(node.value, str)


def plain_in_one_arm(timeline: tl.Timeline) -> Iterator[tuple[Backward, Step]]:
    """The backwards that are not scaled in one arm of a branch, scaled in another, and used by a step of the scaler.

    The scaler is there and on whatever path is taken, and no other step is.
    """
    if not timeline.has(Step) or not timeline.has(Backward):
        return
    steps = list(timeline.located(Step))
    for step, around in steps:
        scaler, optimizer = step.scaler, only(step.subject, Optimizer)
        turns = query.loops(around)
        if not isinstance(scaler, Thing) or not _always_on(scaler) or optimizer is None or not turns:
            continue
        if not _unconditional(query.inside(around, turns[-1])):
            continue
        if any(e.concerns(optimizer) and e.scaler is not scaler for e, _ in steps) or query.unseen(timeline, optimizer):
            continue
        made = [
            (e, a)
            for e, a in timeline.within(turns[-1])
            if isinstance(e, Backward) and e.serial < step.serial and trains(e.subject, optimizer) is not NO
            if not query.exclusive(a, around)  # else the scaler does not step after it in this iteration
        ]
        scaled = [a for e, a in made if e.scaled]
        for event, place in made:
            if not event.scaled and not event.engine and all(query.exclusive(place, a) for a in scaled) and scaled:
                yield event, step


def _always_on(scaler: Thing) -> bool:
    what = scaler.args
    return (
        isinstance(scaler.what, Scaler)
        and scaler.certain
        and what is not None
        and not what.open
        and "enabled" not in what.keywords
        and len(what.positional) < 2
    )


def _unconditional(inside: Sequence[tl.Part]) -> bool:
    """Whether nothing but a window of accumulation decides about what is inside of these parts."""
    found = [part for part in inside if isinstance(part, tl.Branch)]
    return all(part.test is not None and modulo(part.test) is not None for part in found)


def updates_skipped(timeline: tl.Timeline) -> Iterator[tuple[Update, Unscale]]:
    """The updates of scalers that are left out, with the step, where unscaled gradients are not finite."""
    for update, around in timeline.located(Update) if timeline.has(Unscale) else ():
        scaler, turns = only(update.subject, Scaler), query.loops(around)
        if scaler is None or not scaler.certain or not turns:
            continue
        inner = timeline.within(turns[-1])
        branch = next((p for p in query.inside(around, turns[-1]) if isinstance(p, tl.Branch) and _finite(p)), None)
        if branch is None or any(isinstance(e, Update) and branch not in a for e, a in inner):
            continue
        arms = [a[a.index(branch) + 1] for e, a in inner if isinstance(e, Update)]
        if len({arm.index for arm in arms if isinstance(arm, tl.Arm)}) == len(branch.arms):
            continue
        for event, place in inner:
            mine = isinstance(event, Unscale) and only(event.scaler) is scaler and event.serial < update.serial
            if (
                mine
                and isinstance(event, Unscale)
                and branch not in place
                and query.always(query.inside(place, turns[-1]))
            ):
                yield update, event
                break


def updates_in_open_windows(timeline: tl.Timeline) -> Iterator[tuple[Update, Step]]:
    """The updates of scalers in each round of a loop that steps, by the scaler, in some rounds only."""
    for update, around in timeline.located(Update) if timeline.has(Step) else ():
        scaler, turns = only(update.subject, Scaler), query.loops(around)
        if scaler is None or not _always_on(scaler) or not turns or query.unseen(timeline):
            continue
        if not query.always(query.inside(around, turns[-1])):
            continue
        inner = timeline.within(turns[-1])
        steps = [(e, a) for e, a in inner if isinstance(e, Step) and only(e.scaler) is scaler]
        if any(isinstance(e, Unscale) for e, _ in inner) or not steps:
            continue
        if all(_in_window(query.inside(a, turns[-1])) for _, a in steps):
            yield update, steps[0][0]


def _in_window(inside: Sequence[tl.Part]) -> bool:
    return any(
        isinstance(part, tl.Branch) and part.test is not None and modulo(part.test) is not None for part in inside
    )


def _finite(branch: tl.Branch) -> bool:
    """Whether a test asks if something is finite."""
    test = branch.test
    return test is not None and any(
        isinstance(node, tree.Call) and tree.last_name(node.func) in _FINITE for node in test.walk()
    )


_FINITE = frozenset({"isfinite", "isnan", "isinf"})
