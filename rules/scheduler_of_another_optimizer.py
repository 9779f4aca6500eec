"""GL116: the scheduler moves the learning rate of an optimizer that does not train, or moves it at the wrong pace."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gradcheck_lint.facts import query, repair
from gradcheck_lint.finding import Confidence, Severity
from gradcheck_lint.laws.answer import MAYBE, NO, YES
from gradcheck_lint.laws.clock import Pace, Turn, elsewhere, pace
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.runtime.sightings.clock import ScheduleElsewhere, ScheduleLeft, ScheduleOver, ScheduleUnfinished
from gradcheck_lint.source import events as ev
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source import tree
from gradcheck_lint.source.holding import held_by
from gradcheck_lint.source.natures import Optimizer, Scheduler, moves
from gradcheck_lint.source.place import Place
from gradcheck_lint.source.values import Constant, Items, Thing, only

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting

    Located = Sequence[tuple[ev.Event, tuple[tl.Part, ...]]]

LENGTHS = {"CosineAnnealingLR": (1, "T_max"), "LinearLR": (3, "total_iters"), "PolynomialLR": (1, "total_iters")}
"""Where schedules say how many of their own steps they last."""


class SchedulerOfAnotherOptimizer(Rule):
    code = "GL116"
    slug = "scheduler-of-another-optimizer"
    severity = Severity.WARNING
    witnesses = frozenset({"source", "run"})
    needs = (ev.Schedule,)
    watches = (ScheduleElsewhere, ScheduleLeft, ScheduleUnfinished, ScheduleOver)

    def on_timeline(self, timeline: tl.Timeline, report: Report) -> None:
        steps = list(timeline.located(ev.Step))
        if not steps:
            return
        for event, around in timeline.located(ev.Schedule):
            scheduler = only(event.subject, Scheduler)
            if scheduler is None or not scheduler.certain or not query.torch_class(scheduler):
                continue
            optimizer = only(moves(scheduler), Optimizer)
            if optimizer is None or not optimizer.certain or optimizer.summary or optimizer.place is None:
                continue
            turns = query.loops(around)
            if not turns:
                continue
            beside = [e for e, a in steps if turns[-1] in a]
            trains = any(e.concerns(optimizer) for e, _ in steps)
            found = elsewhere(steps=trains, shared=YES if _trains_the_same(optimizer, beside) else MAYBE)
            if found is not NO:
                self.other(timeline, event, optimizer, beside, report, certain=found is YES)
            elif query.always(query.inside(around, turns[0])):
                own = [a for e, a in steps if e.concerns(optimizer) and turns[-1] in a]
                self.paced(event, turns, scheduler, own, report)
                self.crossed(steps, event, optimizer, report)

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
            "the scheduler belongs to an optimizer that is never stepped",
            label="moves the learning rate of another optimizer than the one that trains",
            why="the optimizer that trains keeps its learning rate, whatever the schedule says",
            help=f"build `{name}` on `{query.spoken(steps[-1])}`, after that is built",
            related=related,
            confidence=Confidence.HIGH if certain else Confidence.MEDIUM,
        )

    def paced(
        self,
        event: ev.Schedule,
        turns: list[tl.Loop],
        scheduler: Thing,
        steps: list[tuple[tl.Part, ...]],
        report: Report,
    ) -> None:
        """Its length counts epochs, and it is stepped for each batch; or the other way round."""
        args, kind = scheduler.args, query.torch_class(scheduler)
        name = query.receiver(event)
        if not steps or args is None or event.args.all():
            return
        if kind == "OneCycleLR" and "steps_per_epoch" in args.keywords:
            once = all(len(query.loops(query.inside(a, turns[-1]))) > 0 for a in steps)
            if pace(counts=Turn.STEP, moves=Turn.EPOCH if once else Turn.STEP) is Pace.SLOW:
                report(
                    event.place,
                    "a schedule that counts batches is stepped once per epoch",
                    label="moves one batch further after each epoch",
                    why="the schedule never gets past its beginning",
                    help=f"call `{name}.step()` after each `optimizer.step()`",
                )
            return
        if len(turns) < 2 or not all(query.loops(a)[-1] is turns[-1] for a in steps):
            return
        epochs = _count(turns[-2].node)
        if epochs is None or scheduler.place is None:
            return
        call = scheduler.place.node
        length = _argument(call, *LENGTHS[kind]) if kind in LENGTHS else None
        spoken = repair.text(Place(scheduler.place.chunk, length)) if length is not None else ""
        text = repair.text(Place(turns[-2].place.chunk, epochs))
        same = spoken == text and bool(isinstance(epochs, tree.Constant) or tree.dotted(epochs))
        if spoken and pace(counts=Turn.EPOCH if same else Turn.STEP, moves=Turn.STEP) is Pace.FAST:
            report(
                event.place,
                "a schedule that counts epochs is stepped for each batch",
                label="moves one epoch further after each batch",
                why="the schedule is over within the first epochs",
                help=f"call `{name}.step()` once per epoch, or let it last `{text}` times the number of batches",
                note="a rate that swings on purpose is legitimate",
                related=[("its length is that of this loop", turns[-2].place)],
            )
        elif kind == "MultiStepLR" and isinstance(epochs, tree.Constant):
            marks = args.get(1, "milestones")
            if isinstance(marks, Items) and marks.complete and all(isinstance(m, Constant) for m in marks.items):
                values = [m.value for m in marks.items if isinstance(m, Constant)]
                last = epochs.value
                within = all(isinstance(v, int) and isinstance(last, int) and v < last for v in values)
                if pace(counts=Turn.EPOCH if within else Turn.STEP, moves=Turn.STEP) is Pace.FAST:
                    report(
                        event.place,
                        "a schedule that counts epochs is stepped for each batch",
                        label="moves one epoch further after each batch",
                        why="the milestones are all passed within the first batches",
                        help=f"call `{name}.step()` once per epoch",
                        confidence=Confidence.MEDIUM,
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
                if rate
                else f"the rate of `{name}` is 0 at step {sighting.step}, and has been since step {since} or before",
                why="a step with a rate below 0 climbs, and the loss with it"
                if rate
                else "a step with a rate of 0 moves nothing",
                help="give the schedule as many steps as it is moved"
                + (", and let it end at 0, by `max(0.0, ...)`" if rate else ""),
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


_PLAIN = re.compile(r"(?i)lr|optim(izers?)?|opt|sched(ulers?)?|self|step")


def _tag(name: str) -> str:
    """What a name says beside that it is an optimizer's or a scheduler's: `g` for `self.optimizer_g`."""
    parts = re.split(r"[._]+", name)
    return "_".join(sorted(p for p in parts if p and not _PLAIN.fullmatch(p)))


def _count(node: tree.Node) -> tree.Expression | None:
    """What N is in `for … in range(N)`."""
    head = node.iter if isinstance(node, tree.For) else None
    if isinstance(head, tree.Call) and tree.last_name(head.func) in ("range", "trange") and len(head.args) == 1:
        return head.args[0].value
    return None


def _argument(node: tree.Node, index: int, name: str) -> tree.Expression | None:
    """The argument of a call at a position or of a name."""
    if not isinstance(node, tree.Call):
        return None
    for position, argument in enumerate(node.args):
        if argument.keyword == name or (argument.keyword is None and not argument.star and position == index):
            return argument.value
    return None
