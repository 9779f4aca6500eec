"""The schedules that a Lightning module hands over, and after what Lightning moves them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradcheck_lint.facts import pacing
from gradcheck_lint.laws.answer import YES
from gradcheck_lint.laws.clock import Turn
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source.events import Return
from gradcheck_lint.source.natures import Scheduler
from gradcheck_lint.source.values import Constant, Items, Table, Thing, Value, only


class Handed(NamedTuple):
    """What `configure_optimizers` returns of a schedule: what its length `counts`, and after what it is `moved`.

    It is `sure` what it counts, unless nothing but the name of an option says that.
    """

    event: Return
    scheduler: Thing
    counts: Turn
    moved: Turn
    sure: bool


def handed_over(timeline: tl.Timeline) -> Iterator[Handed]:
    """The schedules of a module whose length and interval both show."""
    entry, owner = timeline.entry, timeline.owner
    if entry is None or entry.name != "configure_optimizers" or owner is None or not owner.derives("LightningModule"):
        return
    if "automatic_optimization" in timeline.home.text or owner.member("lr_scheduler_step") is not None:
        return  # it moves them by itself
    for event in timeline.events(Return):
        if event.function is not entry:
            continue
        for value in _schedules(event.value):
            scheduler, moved = _interval(value)
            if scheduler is None or moved is None:
                continue
            warm, sure = pacing.warms(scheduler, None, timeline.home.text)
            if sure is not YES and not (isinstance(scheduler.what, Scheduler) and "." in scheduler.what.warm_said):
                warm = None  # the name of a parameter is the word of a helper
            counts = warm if warm is not None and sure is YES else _counts(scheduler) or warm
            if counts is not None:
                yield Handed(event, scheduler, counts, moved, sure is YES or counts is not warm)


def _schedules(value: Value) -> Iterator[Value]:
    """What stands for schedules in what is returned: `[optimizers], [schedules]`, a dict, or several of these."""
    if isinstance(value, Table):
        if "lr_scheduler" in value.entries:
            yield value.entries["lr_scheduler"]
    elif isinstance(value, Items) and len(value.items) == 2 and isinstance(value.items[1], Items):
        yield from value.items[1].items
    elif isinstance(value, Items):
        for item in value.items:
            if isinstance(item, Table):
                yield from _schedules(item)


def _interval(value: Value) -> tuple[Thing | None, Turn | None]:
    """A schedule, and after what Lightning moves it: each epoch, if nothing else is said."""
    if not isinstance(value, Table):
        return only(value, Scheduler), Turn.EPOCH
    said = value.entries.get("interval")
    if said is None and not value.complete:
        return None, None
    word = said.value if isinstance(said, Constant) else "epoch" if said is None else None
    moved = {"epoch": Turn.EPOCH, "step": Turn.STEP}.get(word) if isinstance(word, str) else None
    return only(value.entries.get("scheduler"), Scheduler), moved


def _counts(scheduler: Thing) -> Turn | None:
    """What the length of a schedule is a number of, by what Lightning calls these numbers, or by lengths in it."""
    args, name = scheduler.args, pacing.kind(scheduler)
    if args is None or args.open or name not in pacing.LENGTHS or name in pacing.AGAIN:
        return None
    each = args.get(4, "steps_per_epoch") if name == "OneCycleLR" else None
    if each is not None and not (isinstance(each, Constant) and each.value is None):
        return Turn.STEP
    index, keyword = pacing.LENGTHS[name]
    length = only(args.keywords.get(keyword) if index < 0 else args.get(index, keyword))
    of_trainer = length is not None and length.parent is not None and length.parent[0].label == "trainer"
    if length is not None and length.parent is not None and of_trainer:
        return _NUMBERS.get(length.parent[1])
    many = pacing.planned(scheduler)
    return Turn.STEP if many is not None and any(atom.length for atom in many.atoms) else None


_NUMBERS = {"estimated_stepping_batches": Turn.STEP, "max_steps": Turn.STEP, "max_epochs": Turn.EPOCH}
"""What a trainer has."""
