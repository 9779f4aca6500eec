"""GL116: the scheduler moves the learning rate of an optimizer that does not train, or moves it at the wrong pace."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gradcheck_lint.facts import pacing, plateaus, query
from gradcheck_lint.facts.left_behind import left_behind
from gradcheck_lint.facts.lightning_clock import Handed, handed_over
from gradcheck_lint.facts.unmoved import unmoved
from gradcheck_lint.finding import Confidence, Severity
from gradcheck_lint.laws.answer import MAYBE, NO, YES
from gradcheck_lint.laws.clock import BATCHES, Pace, Reach, Turn, elsewhere, pace, reach, vanishes
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.runtime.sightings.clock import (
    ScheduleClimbs,
    ScheduleElsewhere,
    ScheduleLeft,
    ScheduleOver,
    ScheduleUnfinished,
)
from gradcheck_lint.source import amounts, tree
from gradcheck_lint.source import events as ev
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source.deps import depends
from gradcheck_lint.source.holding import held_by
from gradcheck_lint.source.natures import Module, Optimizer, Scheduler, moves
from gradcheck_lint.source.values import Thing, Value, only

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting
    from gradcheck_lint.source.amounts import Amount

    Around = tuple[tl.Part, ...]
    Located = Sequence[tuple[ev.Event, tuple[tl.Part, ...]]]

PACES = {
    (Turn.EPOCH, Turn.STEP): (
        "a schedule that counts epochs is stepped for each batch",
        "moves one epoch further after each batch",
        "the schedule is over within the first epochs",
        "call `{name}.step()` once per epoch, or let the schedule last as many times longer as there are batches",
    ),
    (Turn.EPOCH, Turn.BATCH): (
        "a schedule that counts epochs is stepped for each batch",
        "moves one epoch further after each micro-batch",
        "the schedule is over within the first epochs",
        "call `{name}.step()` once per epoch, or let the schedule last as many times longer as there are batches",
    ),
    (Turn.STEP, Turn.BATCH): (
        "a schedule that counts steps is stepped for each micro-batch",
        "moves one step further after each micro-batch, where the optimizer makes one for several",
        "the schedule is over long before the training is",
        "call `{name}.step()` where the optimizer steps",
    ),
    (Turn.STEP, Turn.EPOCH): (
        "a schedule that counts batches is stepped once per epoch",
        "moves one batch further after each epoch",
        "the schedule never gets past its beginning",
        "call `{name}.step()` after each `optimizer.step()`",
    ),
    (Turn.BATCH, Turn.EPOCH): (
        "a schedule that counts batches is stepped once per epoch",
        "moves one batch further after each epoch",
        "the schedule never gets past its beginning",
        "call `{name}.step()` after each `optimizer.step()`, and let the schedule count these",
    ),
    (Turn.BATCH, Turn.STEP): (
        "a schedule that counts micro-batches is stepped once per accumulation window",
        "moves once where as many micro-batches as a window has were counted",
        "the training ends while most of the schedule is still to come",
        "divide the length of the schedule by the size of the window",
    ),
}
"""By what a length counts, and after what the schedule is moved: message, label, consequence and advice."""

TOLD = {
    plateaus.Fault.NOTHING: (
        "`ReduceLROnPlateau` is moved without a metric",
        "says nothing of how the training goes",
        "torch raises a TypeError at the first move",
        "give it the validation loss",
    ),
    plateaus.Fault.COUNT: (
        "`ReduceLROnPlateau` is given the number of the epoch",
        "takes `{}` for the metric, which grows whatever happens",
        "no epoch looks better than the first one, so the rate falls again and again",
        "give it the validation loss instead of `{}`",
    ),
    plateaus.Fault.RISES: (
        "`ReduceLROnPlateau` looks for the least of a metric that should grow",
        "takes a greater `{}` for no improvement",
        "the rate falls while the training gets better",
        'build it with `mode="max"`',
    ),
    plateaus.Fault.FALLS: (
        "`ReduceLROnPlateau` looks for the greatest of a loss",
        "takes a smaller `{}` for no improvement",
        "the rate falls while the training gets better",
        'build it with `mode="min"`',
    ),
}
"""What it is told, that cannot be right: message, label, consequence and advice."""

COUNTING = frozenset(
    "StepLR MultiStepLR ExponentialLR CosineAnnealingLR LambdaLR LinearLR PolynomialLR MultiplicativeLR"
    " ConstantLR".split()
)
"""Schedules whose `step` takes the number of an epoch, if anything."""

_MEASURE = re.compile(r"(?i)(^|_)(loss|losses|acc|accuracy|score|metric|error|err)($|_)")

_ZERO = "all later steps have a rate of 0"

ENDS = {
    "CosineAnnealingLR": "a cosine climbs back to the rate that it began with",
    "OneCycleLR": "torch raises a ValueError at the first move that is too many",
    "PolynomialLR": _ZERO,
    "get_linear_schedule_with_warmup": _ZERO,
    "get_polynomial_decay_schedule_with_warmup": "all later steps have the least rate",
}
"""What happens when schedules are moved on after their end."""


class SchedulerOfAnotherOptimizer(Rule):
    code = "GL116"
    slug = "scheduler-of-another-optimizer"
    severity = Severity.WARNING
    witnesses = frozenset({"source", "run"})
    needs = (ev.Schedule, ev.Build)
    watches = (ScheduleElsewhere, ScheduleLeft, ScheduleUnfinished, ScheduleOver, ScheduleClimbs)

    def on_timeline(self, timeline: tl.Timeline, report: Report) -> None:
        for handed in handed_over(timeline):
            self.handed(handed, report)
        if not timeline.has(ev.Step):
            return
        for built in unmoved(timeline):
            self.never(built, report)
        steps = list(timeline.located(ev.Step)) if timeline.has(ev.Schedule) else []
        for event, around in timeline.located(ev.Schedule):
            scheduler = only(event.subject, Scheduler)
            if scheduler is None or not pacing.kind(scheduler):
                continue
            self.told(plateaus.told(timeline, event, scheduler), event, scheduler, report)
            optimizer = only(moves(scheduler), Optimizer)
            if optimizer is None or not optimizer.certain or optimizer.summary or optimizer.place is None:
                continue
            turns = query.loops(around)
            if not turns:
                continue
            beside = [e for e, a in steps if turns[-1] in a]
            always = query.always(query.inside(around, turns[0]))
            trains = any(e.concerns(optimizer) and (turns[0] in a or not _later(optimizer, beside)) for e, a in steps)
            found = elsewhere(steps=trains, shared=YES if _trains_the_same(optimizer, beside) else MAYBE)
            if found is not NO:
                self.other(timeline, event, optimizer, beside, report, certain=found is YES)
            elif always and (new := left_behind(timeline, event, optimizer)) is not None:
                self.left(event, optimizer, new, report)
            else:
                self.paced(timeline, event, around, scheduler, report)
                if always:
                    self.crossed(steps, event, optimizer, report)

    def told(self, told: plateaus.Told | None, event: ev.Schedule, scheduler: Thing, report: Report) -> None:
        """It waits for a plateau of something that has none, or looks for it in the wrong direction."""
        if told is None:
            return
        message, label, why, help = TOLD[told.fault]
        report(
            event.place,
            message,
            label=label.format(told.spoken),
            why=why,
            help=help.format(told.spoken),
            related=[("built here", scheduler.place)] if scheduler.place is not None else [],
            confidence=Confidence.HIGH if told.certain else Confidence.MEDIUM,
        )

    def other(
        self,
        timeline: tl.Timeline,
        event: ev.Schedule,
        optimizer: Thing,
        steps: list[ev.Step],
        report: Report,
        *,
        certain: bool,
    ) -> None:
        """The optimizer of the scheduler is never stepped, and another one is."""
        if not steps or query.unseen(timeline, optimizer):
            return
        name = query.receiver(event)
        related = [("the scheduler was built on this optimizer", optimizer.place)] if optimizer.place else []
        report(
            event.place,
            "the scheduler belongs to an optimizer that was replaced"
            if any(e.concerns(optimizer) for e in timeline.events(ev.Step))
            else "the scheduler belongs to an optimizer that is never stepped",
            label="moves the learning rate of another optimizer than the one that trains",
            why="the optimizer that trains keeps its learning rate, whatever the schedule says",
            help=f"build `{name}` on `{query.spoken(steps[-1])}`, after that is built",
            related=related,
            confidence=Confidence.HIGH if certain else Confidence.MEDIUM,
        )

    def left(self, event: ev.Schedule, optimizer: Thing, built: ev.BuildOptimizer, report: Report) -> None:
        """Its optimizer is given up while it goes on."""
        related = [("another optimizer takes over here", built.place)]
        if optimizer.place is not None:
            related.insert(0, ("the scheduler was built on this optimizer", optimizer.place))
        report(
            event.place,
            "the scheduler belongs to an optimizer that was replaced",
            label="goes on to move the learning rate of the optimizer that was given up",
            why="the optimizer that trains keeps its learning rate, whatever the schedule says",
            help=f"build `{query.receiver(event)}` again where the optimizer is built again",
            related=related,
        )

    def handed(self, handed: Handed, report: Report) -> None:
        """Lightning moves it, at the interval that it was told."""
        found = pace(counts=handed.counts, moves=handed.moved)
        if found is Pace.RIGHT:
            return
        slow = found is Pace.SLOW
        report(
            handed.event.statement,
            "a schedule that counts batches is stepped once per epoch"
            if slow
            else "a schedule that counts epochs is stepped for each batch",
            label="hands over a schedule that Lightning moves once per epoch, as nothing else is said"
            if slow
            else "hands over a schedule that Lightning is told to move for each batch",
            why="the schedule never gets past its beginning"
            if slow
            else "the schedule is over within the first epochs",
            help='return `{"scheduler": ..., "interval": "step"}` for it' if slow else 'leave out `"interval": "step"`',
            related=[("built here", handed.scheduler.place)] if handed.scheduler.place is not None else [],
            confidence=Confidence.HIGH if handed.sure else Confidence.MEDIUM,
        )

    def never(self, built: ev.Build, report: Report) -> None:
        """Nothing can move it."""
        name = built.subject.label
        report(
            built.place,
            "the schedule is never moved",
            label=f"builds a schedule, and nothing calls `{name}.step()`",
            why="the learning rate stays what it is at the first step",
            help=f"call `{name}.step()` once for each of what the schedule counts, after the optimizer's step",
        )

    def paced(
        self, timeline: tl.Timeline, event: ev.Schedule, around: Around, scheduler: Thing, report: Report
    ) -> None:
        """Its length counts something else than its moves do, or is not that of the training."""
        timing = pacing.timing(timeline, event, around, scheduler)
        if event.args.all():
            self.measured(event, scheduler, report)
        if timing is None or event.args.all():
            return
        length, counts = pacing.planned(scheduler), pacing.counted(scheduler, timing)
        found = pace(counts=counts, moves=timing.moved) if counts is not None else Pace.RIGHT
        if counts is not None and found is not Pace.RIGHT:
            self.other_pace(event, timing, scheduler, counts, report)
        elif counts is None and not self.warmed(timeline, event, timing, scheduler, report):
            self.other_length(event, timing, scheduler, length, report)

    def warmed(
        self, timeline: tl.Timeline, event: ev.Schedule, timing: pacing.Timing, scheduler: Thing, report: Report
    ) -> bool:
        """Its warm-up alone shows what it counts, or that it is so long."""
        counts, sure = pacing.warms(scheduler, timing.epochs, timeline.home.text)
        outlasts = pacing.outlasts(scheduler, timing)
        if outlasts:
            counts, sure = Turn.STEP, YES
        many = Turn.STEP if timing.moved is Turn.BATCH else timing.moved
        if counts is None or sure is NO or pace(counts=counts, moves=many) is Pace.RIGHT:
            return False
        message, label, why, help = PACES[counts, timing.moved]
        report(
            event.place,
            message,
            label=label,
            why=why
            if outlasts
            else "the training is over before the warm-up is, or most of it is spent on that"
            if counts is Turn.STEP
            else "the warm-up is over within the first epoch",
            help=help.format(name=query.receiver(event)),
            related=[("built here", scheduler.place)] if scheduler.place is not None else [],
            confidence=Confidence.HIGH if sure is YES else Confidence.MEDIUM,
        )
        return True

    def measured(self, event: ev.Schedule, scheduler: Thing, report: Report) -> None:
        """It is given a loss, which it takes for the number of an epoch."""
        node = event.place.node
        given = node.args[0].value if isinstance(node, tree.Call) and node.args else None
        if pacing.kind(scheduler) not in COUNTING or given is None or not _MEASURE.search(tree.last_name(given)):
            return
        value = next(iter(event.args.all()), None)
        report(
            event.place,
            "a schedule that counts is stepped with a measure of the training",
            label="takes it for the number of an epoch",
            why="the rate is that of another epoch, mostly of the first, whatever the number of steps",
            help=f"call `{query.receiver(event)}.step()` without it; only ReduceLROnPlateau looks at a measure",
            related=[("built here", scheduler.place)] if scheduler.place is not None else [],
            confidence=Confidence.HIGH if _computed(value) else Confidence.MEDIUM,
        )

    def other_pace(
        self, event: ev.Schedule, timing: pacing.Timing, scheduler: Thing, counts: Turn, report: Report
    ) -> None:
        """It is moved after something else than what its length is a number of."""
        name, words = query.receiver(event), (counts, timing.moved)
        message, label, why, help = PACES[words]
        loop = timing.loops[0] if counts is Turn.EPOCH else timing.inner
        report(
            event.place,
            message,
            label=label,
            why=why,
            help=help.format(name=name),
            note="a rate that swings on purpose is legitimate"
            if pace(counts=counts, moves=timing.moved) is Pace.FAST
            else "",
            related=[("built here", scheduler.place), ("its length is that of this loop", loop.place)]
            if scheduler.place is not None
            else [],
        )

    def other_length(
        self, event: ev.Schedule, timing: pacing.Timing, scheduler: Thing, length: Amount | None, report: Report
    ) -> None:
        """Numbers alone tell that it ends before the training, or that the training ends before it does anything."""
        kind, total = pacing.kind(scheduler), timing.total.number if timing.total is not None else None
        related = [("built here", scheduler.place)] if scheduler.place is not None else []
        if total is None:
            part = amounts.divided(timing.total, length)
            more = part is not None and (part.number or 0) >= 1 and part != amounts.ONE
            if more and kind in ENDS and timing.total is not None and part is not None and part.number is not None:
                report(
                    event.place,
                    "the schedule is over before the training is",
                    label="is called more often than the schedule has moves",
                    why=ENDS[kind],
                    help="let the schedule last as long as the loops around it",
                    related=related,
                    confidence=Confidence.MEDIUM if kind == "CosineAnnealingLR" else Confidence.HIGH,
                )
            self.early_marks(event, timing, scheduler, report)
            return
        planned = length.number if length is not None else None
        if planned is not None and kind in ENDS and reach(planned=planned, moves=total) is Reach.PAST:
            swings = kind == "CosineAnnealingLR" and total > 2 * planned
            report(
                event.place,
                "the schedule is over before the training is",
                label=f"is called {total} times, and the schedule was made for {planned}",
                why=ENDS[kind],
                help=f"let the schedule last {total}",
                note="a rate that swings on purpose is legitimate" if kind == "CosineAnnealingLR" else "",
                related=related,
                confidence=Confidence.MEDIUM if swings else Confidence.HIGH,
            )
        marks = pacing.milestones(scheduler)
        if marks and all(reach(planned=mark, moves=total) is not Reach.PAST for mark in marks):
            report(
                event.place,
                "the schedule never changes the learning rate",
                label=f"is called {total} times, and the first change comes after {min(marks)}",
                why="the training is over before the schedule does anything",
                help="count in the schedule what it is moved after, or leave it out",
                related=related,
            )
        else:
            self.early_marks(event, timing, scheduler, report)

    def early_marks(self, event: ev.Schedule, timing: pacing.Timing, scheduler: Thing, report: Report) -> None:
        """All its numbers are numbers of epochs, as it seems, and it is moved more often."""
        epochs = timing.epochs.number if timing.epochs is not None else None
        if timing.moved is Turn.EPOCH or len(timing.loops) < 2:
            return
        rounds = timing.inner.length.number if timing.inner.length is not None else None
        decay, marks = pacing.decay(scheduler), pacing.milestones(scheduler)
        if decay is not None:
            moves = (epochs or BATCHES) * (rounds or BATCHES)
            if not vanishes(factor=decay.factor, times=moves / decay.every):
                return
            every = "batch" if decay.every == 1 else f"{decay.every} batches"
            label = f"multiplies the rate by {decay.factor:g} after each {every}"
            why = "nothing is left of the rate before the training is over, and most steps move nothing"
        elif marks and epochs is not None and all(mark < epochs for mark in marks):
            label = "moves one epoch further after each batch"
            why = "the milestones are all passed within the first batches"
        else:
            return
        report(
            event.place,
            "a schedule that counts epochs is stepped for each batch",
            label=label,
            why=why,
            help=f"call `{query.receiver(event)}.step()` once per epoch",
            related=[("built here", scheduler.place)] if scheduler.place is not None else [],
            confidence=Confidence.HIGH if epochs is not None and rounds is None else Confidence.MEDIUM,
        )

    def crossed(self, located: Located, event: ev.Schedule, optimizer: Thing, report: Report) -> None:
        """By its name it belongs to another optimizer."""
        tag = _tag(query.receiver(event))
        names: dict[str, Thing] = {}
        for e, _ in located:
            subject = only(e.subject, Optimizer)
            if isinstance(e, ev.Step) and subject is not None:
                names[_tag(query.spoken(e))] = subject
        other = names.get(tag)
        if not tag or other is None or other is optimizer or optimizer not in names.values():
            return
        report(
            event.place,
            "the scheduler was built on another optimizer than its name says",
            label="moves the learning rate of another optimizer",
            why="one optimizer has two schedules, and the other one has none",
            help="build it on the optimizer that it is named after",
            related=[("the scheduler was built on this optimizer", optimizer.place)] if optimizer.place else [],
            confidence=Confidence.MEDIUM,
        )

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        name = sighting.optimizer.label if sighting.optimizer else "optimizer"
        call = sighting.source("scheduler.step()")
        if isinstance(sighting, ScheduleElsewhere):
            report(
                "the scheduler belongs to an optimizer that is never stepped",
                label=f"moves the rate of another optimizer than `{name}`, which has made {sighting.step} steps",
                why="the optimizer that trains keeps its learning rate, whatever the schedule says",
                help=f"build the {sighting.scheduler} on `{name}`, after that is built",
                related=[("the scheduler was built on this optimizer", sighting.scheduled)],
            )
        elif isinstance(sighting, ScheduleOver):
            rate, since = sighting.rate, sighting.since
            report(
                "the schedule is over, and training goes on",
                label=f"the rate of `{name}` is {rate:.3g} at step {sighting.step}, and was {sighting.highest:.3g}"
                if rate < 0
                else f"the rate of `{name}` is {rate:.3g} at step {sighting.step}, and has been next to nothing since "
                f"step {since} or before"
                if rate
                else f"the rate of `{name}` is 0 at step {sighting.step}, and has been since step {since} or before",
                why="a step with a rate below 0 climbs, and the loss with it"
                if rate < 0
                else "a step with such a rate moves nothing"
                if rate
                else "a step with a rate of 0 moves nothing",
                help="give the schedule as many steps as it is moved"
                + (", and let it end at 0, by `max(0.0, ...)`" if rate < 0 else ""),
                related=[("the step", sighting.stepped)],
            )
        elif isinstance(sighting, ScheduleLeft):
            built = sighting.built
            there = sighting.site is not None and sighting.site == built
            moves = f"moved {sighting.moves} times since the optimizer that it was built on"
            report(
                "the scheduler belongs to an optimizer that was replaced",
                label=f"the scheduler of the one before it has {moves} was given up"
                if there
                else f"has {moves} was given up",
                why=f"`{name}` trains, and keeps its learning rate, whatever the schedule says",
                help=f"build the {sighting.scheduler} again where `{name}` is built",
                related=[
                    ("the optimizer of the schedule", sighting.scheduled),
                    *([] if there else [("the one that trains now", built)]),
                ],
            )
        elif isinstance(sighting, ScheduleClimbs):
            report(
                "the schedule is over before the training is",
                label=f"moved {sighting.moves} times, and the schedule was made for {sighting.length}: the rate of "
                f"`{name}` is {sighting.rate:.3g} at the end",
                why="a cosine climbs back to the rate that it began with",
                help=f"let the schedule last {sighting.moves}",
                note="a rate that swings on purpose is legitimate",
                confidence=Confidence.HIGH if sighting.sure else Confidence.MEDIUM,
            )
        elif isinstance(sighting, ScheduleUnfinished):
            report(
                "a schedule that counts batches is stepped once per epoch",
                label=f"moved {sighting.times} times, and the schedule was made for {sighting.total} steps, as many "
                f"as `{name}` has made",
                why="the schedule never gets past its beginning",
                help=f"call `{call}` after each `{name}.step()`",
                related=[("the step", sighting.stepped)],
            )


def _trains_the_same(optimizer: Thing, steps: list[ev.Step]) -> bool:
    """Whether another one that steps was given a model that this one was given."""
    mine = held_by(optimizer).modules
    others = [other for e in steps if (other := only(e.subject, Optimizer)) is not None]
    return any(m is n for other in others for m in mine for n in held_by(other).modules)


def _computed(value: Value | None) -> bool:
    """Whether a number comes from a network."""
    thing = only(value)
    node = thing.place.node if thing is not None and thing.place is not None else None
    taken = isinstance(node, tree.Call) and isinstance(node.func, tree.Attribute) and node.func.attr == "item"
    return taken or any(isinstance(t.what, Module) for t in depends(value))


def _later(optimizer: Thing, steps: list[ev.Step]) -> bool:
    """Whether what steps was built after this one, for the same model, and so has taken its place."""
    others = [other for e in steps if (other := only(e.subject, Optimizer)) is not None and other is not optimizer]
    return bool(others) and _trains_the_same(optimizer, steps) and all(o.serial > optimizer.serial for o in others)


_PLAIN = re.compile(r"(?i)lr|optim(izers?)?|opt|sched(ulers?)?|self|step")


def _tag(name: str) -> str:
    """What a name says beside that it is an optimizer's or a scheduler's: `g` for `self.optimizer_g`."""
    parts = re.split(r"[._]+", name)
    return "_".join(sorted(p for p in parts if p and not _PLAIN.fullmatch(p)))
