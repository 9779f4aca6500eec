"""What is built anew after a state was loaded into what it takes the place of, so that what was loaded is lost."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from gradcheck_lint.facts.order import after
from gradcheck_lint.facts.repair import text
from gradcheck_lint.laws.answer import YES
from gradcheck_lint.source import tree
from gradcheck_lint.source.events import Assign, BuildOptimizer, Event, Forward, LoadState, Rebind, Step, Unknown
from gradcheck_lint.source.holding import held_by, shares
from gradcheck_lint.source.natures import Module, Optimizer
from gradcheck_lint.source.timeline import Branch, Call, Loop, Timeline
from gradcheck_lint.source.values import Thing, only

_RESUMED = re.compile(r"epochs?|steps?|iter\w*|global_step|start_epoch")


class Anew(NamedTuple):
    """The optimizer that is built where another one has its state; `sure` if that one was meant."""

    built: BuildOptimizer
    sure: bool


def built_anew(timeline: Timeline, load: LoadState) -> Anew | None:
    """The optimizer that is built for the same parameters after another one was given its state, and steps instead.

    It is sure to be a slip where both are built alike, or where the count of epochs is read beside the state: then this
    training goes on.
    """
    restored = only(load.subject, Optimizer)
    if restored is None or held_by(restored).unknown:
        return None
    anew: BuildOptimizer | None = None
    for later in after(timeline, load):
        replaced = anew is not None and later.concerns(anew.subject)  # the other one, where nothing was restored
        if isinstance(later, (LoadState, Step, Unknown)) and later.concerns(restored) and not replaced:
            return None
        if isinstance(later, BuildOptimizer) and anew is None and _same(restored, later.subject):
            anew = later if follows(timeline, load, later) else None
        elif anew is not None and isinstance(later, (LoadState, Unknown)) and replaced:
            return None
        elif anew is not None and isinstance(later, Step) and replaced:
            body = load.function.body if load.function is not None else timeline.home.body
            return Anew(anew, _alike(restored, anew.subject) or any(map(_counts, tree.walk_block(body))))
    return None


def follows(timeline: Timeline, load: Event, later: Event) -> bool:
    """Whether an event comes on every path from another one."""
    around = {id(part) for part, _ in timeline.path(load) if isinstance(part, Branch)}
    return all(id(part) in around for part, _ in timeline.path(later) if isinstance(part, Branch))


def _alike(one: Thing, other: Thing) -> bool:
    """Whether two things are built by the same words."""
    return one.place is not None and other.place is not None and text(one.place) == text(other.place)


def _counts(node: tree.Node) -> bool:
    """`checkpoint["epoch"]`."""
    if not isinstance(node, tree.Subscript) or not isinstance(node.index, tree.Constant):
        return False
    return isinstance(node.index.value, str) and _RESUMED.fullmatch(node.index.value) is not None


def model_anew(timeline: Timeline, load: LoadState) -> Rebind | None:
    """Where the model that was given its state makes way for another one, built by the same words, before it runs."""
    model = only(load.subject, Module)
    if model is None or not model.certain or model.core is not model or model.escaped:
        return None
    here = _loops(timeline, load)
    replaced: Rebind | None = None
    for later in after(timeline, load):
        if later is load or (isinstance(later, (Forward, Unknown, LoadState)) and later.concerns(model)):
            return None
        if replaced is None:
            if isinstance(later, Assign) and later.concerns(model):
                return None  # it has another name
            if isinstance(later, Rebind) and later.concerns(model):
                new = only(later.value, Module)
                if new is None or not _alike(model, new) or _loops(timeline, later) != here:
                    return None
                replaced = later if follows(timeline, load, later) and later.serial > load.serial else None
                if replaced is None or _read_between(timeline, load, later):
                    return None
        elif isinstance(later, (LoadState, Unknown)) and later.concerns(only(replaced.value) or model):
            return None
        elif isinstance(later, Forward) and later.concerns(only(replaced.value) or model):
            return replaced
    return None


def _loops(timeline: Timeline, event: Event) -> list[Loop]:
    return [part for part, _ in timeline.path(event) if isinstance(part, Loop)]


def _read_between(timeline: Timeline, load: LoadState, later: Rebind) -> bool:
    """Whether the code that leads from one event to another speaks of what the second one binds anew."""
    name = tree.last_name(later.target)
    return any(
        isinstance(node, (tree.Name, tree.Attribute)) and tree.last_name(node) == name
        for node in nodes_between(timeline, load, later)
    )


def nodes_between(timeline: Timeline, first: Event, second: Event) -> Iterator[tree.Node]:
    """What is written between two events, in the functions that lead to them: by lines, those of both aside."""
    behind, ahead = _marks(timeline, first), _marks(timeline, second)
    for key in behind.keys() | ahead.keys():
        body, start = behind.get(key, (None, 0))
        other, end = ahead.get(key, (None, 0))
        for node in tree.walk_block(body or other or []):
            if (body is None or node.at.line > start) and (other is None or node.at.line < end):
                yield node


def _marks(timeline: Timeline, event: Event) -> dict[int, tuple[tree.Block, int]]:
    """The bodies of the functions that lead to an event, and at which of their lines they do."""
    body = timeline.entry.body if timeline.entry is not None else timeline.home.body
    found: dict[int, tuple[tree.Block, int]] = {}
    for part, _ in timeline.path(event):
        if isinstance(part, Call):
            found[id(body)] = body, part.place.node.at.line
            body = part.function.body
    found[id(body)] = body, event.statement.node.at.line
    return found


def _same(one: Thing, other: Thing) -> bool:
    """Whether two optimizers are for the same modules, which the first one holds whole."""
    first, second = held_by(one), held_by(other)
    return bool(first.modules) and (
        shares(one, other) is YES or (not second.unknown and first.modules == second.modules)
    )
