"""Losses from which a backward reaches nothing: what has cut them off, and what they lost of their terms."""

from __future__ import annotations

from typing import NamedTuple

from gradcheck_lint.facts.reach import Cutting, Reach, Reaching, Term, reaching, terms
from gradcheck_lint.laws.answer import NO, YES
from gradcheck_lint.laws.mode import OFF
from gradcheck_lint.source import tree
from gradcheck_lint.source.effort import spend
from gradcheck_lint.source.events import Backward, Freeze
from gradcheck_lint.source.operations import How
from gradcheck_lint.source.place import Place
from gradcheck_lint.source.timeline import Branch, Call, Timeline
from gradcheck_lint.source.values import Items, Thing, Value, only, options


class Refused(NamedTuple):
    """A backward that reaches nothing: something has cut off the loss, which is `certain` if all was seen."""

    backward: Backward
    cut: Cutting
    certain: bool


def refused(timeline: Timeline) -> list[Refused]:
    """The backwards that torch refuses, as what they run on has no graph."""
    walk, found = reaching(timeline), []
    for event in timeline.events(Backward):
        reach = walk.of(event.subject)
        if reach.grad is not NO or "try" in event.context or _asked(timeline, event):
            continue
        cut = next((cut for cut in reach.cuts if cut.sure), None)
        if cut is None or (cut.off and _elsewhere(timeline, event)):
            continue
        found.append(Refused(event, cut, reach.certain))
    return found


def _asked(timeline: Timeline, event: Backward) -> bool:
    """Whether the code asks before a backward if there is anything to run it on."""
    for step, _ in timeline.path(event):
        if isinstance(step, Branch) and step.test is not None:
            for node in step.test.walk():
                if isinstance(node, tree.Attribute) and node.attr in ("requires_grad", "grad_fn"):
                    return True
                if isinstance(node, tree.Name) and node.id == "is_grad_enabled":
                    return True
                if isinstance(node, tree.Attribute) and node.attr == "is_grad_enabled":
                    return True
    return False


def _elsewhere(timeline: Timeline, event: Backward) -> bool:
    """Whether a backward stands on some paths only in a function that was called where nothing is recorded.

    The same function trains and evaluates, and what tells the two apart was not seen.
    """
    if not event.context & OFF:
        return False
    path = [step for step, _ in timeline.path(event)]
    calls = [index for index, step in enumerate(path) if isinstance(step, Call)]
    return bool(calls) and any(isinstance(step, Branch) for step in path[calls[0] :])


class Lost(NamedTuple):
    """A term of a loss from which a backward reaches nothing, where it reaches something from another one.

    It is `compared` where it is a criterion, all whose arguments were cut off before: as such it can have no use.
    """

    backward: Backward
    term: Term
    cut: Cutting
    compared: bool

    @property
    def place(self) -> Place | None:
        """What to point at: the criterion, or what has cut the term off."""
        made = self.term.value.made if isinstance(self.term.value, Thing) and self.compared else None
        return made.place if made is not None else self.cut.place


def lost(timeline: Timeline) -> list[Lost]:
    """The terms of losses that train nothing, as something has cut them off."""
    walk, found = reaching(timeline), []
    for event in timeline.events(Backward):
        if "try" in event.context or walk.of(event.subject).grad is not YES:
            continue
        parts = terms(event.subject)
        if len(parts) < 2:
            continue
        reached = [walk.of(part.value) for part in parts]
        for part, reach in zip(parts, reached, strict=True):
            compared = not part.negative and _compares(part.value)
            cut = _cut_of(reach, compared)
            if cut is None or estimates(walk, part, parts):
                continue
            found.append(Lost(event, part, cut, compared))
    return found


def _cut_of(reach: Reach, compared: bool) -> Cutting | None:
    if reach.grad is not NO or not reach.certain:
        return None
    sure = [cut for cut in reach.cuts if cut.sure]
    if not sure or len(sure) < len(reach.cuts):
        return None
    # what is not recorded may be there to be printed, but for a criterion
    return sure[0] if compared or not any(cut.off for cut in reach.cuts) else None


def _compares(value: Value) -> bool:
    """Whether a value is what a criterion of torch gives, computed where torch records."""
    made = value.made if isinstance(value, Thing) else None
    if made is None or made.recorded is not YES or len(made.args) < 2:
        return False
    if made.how is How.FUNCTION:
        return made.name.startswith("torch.nn.functional.") and made.name.endswith(("_loss", "_entropy", "kl_div"))
    base = made.base.core if made.how is How.CALL and isinstance(made.base, Thing) else None
    return base is not None and base.class_name.startswith("torch.nn.") and base.class_name.endswith("Loss")


def estimates(walk: Reaching, part: Term, parts: list[Term]) -> bool:
    """Whether a term without a graph is there beside another that it was computed with, as in a straight-through
    estimator: `x + (q - x).detach()` and `loss - loss.detach()`."""
    others = {id(other.value) for other in parts if other is not part}
    behind, seen = [part.value], set[int]()
    while behind:
        value = behind.pop()
        for option in options(value):
            spend(1)
            if id(option) in seen:
                continue
            seen.add(id(option))
            if id(option) in others:
                return True
            made = option.made if isinstance(option, Thing) else None
            if made is not None and len(seen) < 100:
                behind += [one for one in (made.base, *made.args) if one is not None]
            if isinstance(option, Thing) and option.parent is not None:
                behind.append(option.parent[0])
            if isinstance(option, Items):
                behind += option.items[:8]
    return False


class Freed(NamedTuple):
    """A loss without a graph that is made to require grad: a backward on it fills its own gradient alone."""

    backward: Backward
    event: Freeze
    certain: bool


def freed(timeline: Timeline) -> list[Freed]:
    """The losses whose `requires_grad` is set after something has cut them off."""
    found: list[Freed] = []
    writes = [e for e in timeline.events(Freeze) if e.value is True and isinstance(e.thing, Thing)]
    if not writes:
        return found
    walk = reaching(timeline)
    for backward in timeline.events(Backward):
        subject = only(backward.subject)
        if subject is None or "try" in backward.context:
            continue
        for write in writes:
            if write.thing is not subject or write.serial > backward.serial:
                continue
            reach = walk.made(subject)
            cut = next((cut for cut in reach.cuts if cut.sure), None)
            if reach.grad is NO and cut is not None:
                found.append(Freed(backward, write, reach.certain))
    return found


class Numb(NamedTuple):
    """What no backward of an entry point reaches but through an operation without a derivative, which is `flat`."""

    backward: Backward
    flat: Cutting
    behind: tuple[Thing, ...]
    whole: bool


def numb(timeline: Timeline) -> list[Numb]:
    """The operations that keep every gradient from something that is to be trained."""
    walk, backwards = reaching(timeline), list(timeline.events(Backward))
    found: list[Numb] = []
    reached = [walk.of(event.subject) for event in backwards]
    alive = {id(thing) for reach in reached for thing in reach.met}
    if not any(reach.numb for reach in reached) or not all(reach.whole and reach.certain for reach in reached):
        return found
    for event, reach in zip(backwards, reached, strict=True):
        behind = tuple(thing for thing in reach.numb if id(thing) not in alive)
        if behind and reach.grad is YES and reach.flat and reach.flat[0].sure:
            found.append(Numb(event, reach.flat[0], behind, not reach.met))
    return found
