"""What a run that goes on from a checkpoint loses or mixes up: schedules, their rates, and copies made too early."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from gradcheck_lint.facts import pacing, query, repair
from gradcheck_lint.facts.built_anew import follows
from gradcheck_lint.facts.order import after
from gradcheck_lint.laws.answer import NO
from gradcheck_lint.laws.clock import LOADS_SCHEDULE, SETTING
from gradcheck_lint.source import tree
from gradcheck_lint.source.events import Build, Consume, Event, Forward, LoadState, Schedule, Step, Unknown
from gradcheck_lint.source.holding import shares
from gradcheck_lint.source.natures import Module, Optimizer, Parameters, Scheduler, moves, nature
from gradcheck_lint.source.place import Place
from gradcheck_lint.source.timeline import Loop, Timeline
from gradcheck_lint.source.values import Constant, Thing, only


class Anew(NamedTuple):
    """A schedule that is built where another one has its state, or is given the state only after that, or never."""

    built: Build
    sure: bool
    counted: bool = True


def rebuilt(timeline: Timeline, load: LoadState) -> Anew | None:
    """The schedule that is built for the same optimizer after another one was given its state, and moves instead.

    It is sure to be a slip where both are built alike.
    """
    restored = only(load.subject, Scheduler)
    optimizer = only(moves(restored), Optimizer) if restored is not None else None
    if restored is None or optimizer is None:
        return None
    anew: Build | None = None
    for later in after(timeline, load):
        if isinstance(later, (LoadState, Schedule, Unknown)) and later.concerns(restored):
            return None
        if isinstance(later, Build) and anew is None and only(moves(later.subject), Optimizer) is optimizer:
            anew = later if follows(timeline, load, later) else None
        elif anew is not None and isinstance(later, (LoadState, Unknown)) and later.concerns(anew.subject):
            return None
        elif anew is not None and isinstance(later, Schedule) and later.concerns(anew.subject):
            alike = restored.place is not None and repair.text(restored.place) == repair.text(anew.place)
            return Anew(anew, alike)
    return None


def rate_lost(timeline: Timeline, load: LoadState) -> Anew | None:
    """The schedule that sets the rate of an optimizer when it is built, after that one was given its state.

    It is given its own state afterwards, which holds its count and not the rate; it is sure to do harm where it moves
    once per epoch. Or the file saves the state of a schedule, and nothing reads that.
    """
    optimizer = only(load.subject, Optimizer)
    if optimizer is None:
        return None
    built: Build | None = None
    moved = False
    for later in after(timeline, load):
        if isinstance(later, (LoadState, Unknown)) and later.concerns(optimizer):
            return None
        if isinstance(later, Schedule) and built is not None and later.concerns(built.subject):
            moved = True
            break
        if built is None and isinstance(later, Build) and only(moves(later.subject), Optimizer) is optimizer:
            given = later.args.get(-1, "last_epoch") if later.args.open else later.args.keywords.get("last_epoch")
            if pacing.kind(later.subject) not in SETTING or given is not None or _positions(later):
                return None
            built = later if follows(timeline, load, later) else None
        elif built is not None and isinstance(later, LoadState) and later.concerns(built.subject):
            return None if _sets_rate(timeline, load) else Anew(built, not _each_step(timeline, built.subject))
    if built is None or not moved or _sets_rate(timeline, load) or not _saved_in_vain(timeline.home.text):
        return None
    return Anew(built, True, counted=False)


def _positions(built: Build) -> bool:
    """Whether a schedule may be given its count by position."""
    return len(built.args.positional) > _COUNT_AT.get(pacing.kind(built.subject), 2)


_COUNT_AT = {"StepLR": 3, "MultiStepLR": 3, "ConstantLR": 3, "LinearLR": 4, "CosineAnnealingLR": 3, "PolynomialLR": 3}
"""Where the constructors of schedules take `last_epoch`, counted from 0, if that is not after two others."""


def _saved_in_vain(text: str) -> bool:
    """Whether a file saves the state of a schedule and never loads one."""
    return re.search(r"(?i)sched\w*\.state_dict\(\)", text) is not None and not LOADS_SCHEDULE.search(text)


def _sets_rate(timeline: Timeline, load: LoadState) -> bool:
    """Whether the code around sets a rate by hand."""
    body = load.function.body if load.function is not None else timeline.home.body
    return any(isinstance(n, tree.Attribute) and n.attr == "param_groups" for n in tree.walk_block(body))


def _each_step(timeline: Timeline, scheduler: Thing) -> bool:
    """Whether a schedule moves in the loop that steps, so that its rate is right again after one step."""
    loops = [query.loops(a)[-1:] for e, a in timeline.located(Step)]
    return any(e.concerns(scheduler) and query.loops(a)[-1:] in loops for e, a in timeline.located(Schedule))


class Begun(NamedTuple):
    """A schedule that counts from 0 in a loop whose epochs go on from a checkpoint.

    It is sure to be laid out for all of them where it is as long as the whole training.
    """

    moved: Schedule
    built: Build
    start: str
    sure: bool


_COUNTS = re.compile(r"(?i)^(start_)?(epochs?|steps?|iter\w*|global_step|start)$")


def begun_anew(timeline: Timeline) -> Iterator[Begun]:
    """The schedules that nothing restores where the training is."""
    if not timeline.has(LoadState) or timeline.cut:
        return
    loads = list(timeline.events(LoadState))
    trained = any(isinstance(e, Step) for e in after(timeline, loads[0]))
    if not trained or any(only(e.subject, Scheduler) is not None for e in loads):
        return
    builds = {e.subject.serial: e for e in timeline.events(Build) if isinstance(e.subject.what, Scheduler)}
    told: set[int] = set()
    for moved, around in timeline.located(Schedule):
        scheduler = only(moved.subject, Scheduler)
        built = builds.get(scheduler.serial) if scheduler is not None else None
        turns = query.loops(around)
        if scheduler is None or built is None or not turns or moved.args.positional or moved.args.keywords:
            continue
        start = _start(turns[0].node)
        if scheduler.serial in told or start is None or not _loads_before(timeline, loads, turns[0]):
            continue
        if pacing.kind(scheduler) not in pacing.LENGTHS.keys() | {"MultiStepLR", "LambdaLR", "ExponentialLR"}:
            continue
        others = [e for e in timeline.events(Schedule, Unknown) if e.concerns(scheduler)]
        if (
            built.args.open
            or "last_epoch" in built.args.keywords
            or any(turns[0] not in _around(timeline, e) for e in others)
        ):
            continue
        body = [*timeline.home.body] if moved.function is None else moved.function.body
        bodies = [timeline.home.body, body, *(e.function.body for e in loads if e.function is not None)]
        if _restored(start, bodies) and not _winds(timeline):
            told.add(scheduler.serial)
            timing = pacing.timing(timeline, moved, around, scheduler)
            sure = timing is not None and pacing.counted(scheduler, timing) is not None
            yield Begun(moved, built, repair.text(Place(turns[0].place.chunk, start)), sure)


def _around(timeline: Timeline, event: Event) -> list[object]:
    return [part for part, _ in timeline.path(event)]


def _loads_before(timeline: Timeline, loads: list[LoadState], loop: Loop) -> bool:
    first = next((e for e, _ in timeline.within(loop)), None)
    return first is not None and any(
        only(e.subject, (Module, Optimizer)) is not None and e.serial < first.serial for e in loads
    )


def _start(node: tree.Node) -> tree.Expression | None:
    """Where the epochs of a loop begin, if that is not 0."""
    head = node.iter if isinstance(node, tree.For) else None
    while isinstance(head, tree.Call) and tree.last_name(head.func) in ("tqdm", "trange", "track") and head.args:
        if tree.last_name(head.func) == "trange":
            break
        head = head.args[0].value
    if not isinstance(head, tree.Call) or tree.last_name(head.func) not in ("range", "trange"):
        return None
    plain = [a.value for a in head.args if not a.keyword]
    return plain[0] if len(plain) == 2 and not isinstance(plain[0], tree.Constant) else None


def _restored(start: tree.Expression, bodies: list[tree.Block]) -> bool:
    """Whether a number is read from a checkpoint: `checkpoint["epoch"] + 1`, or a name for that."""
    if _counts(start):
        return True
    name = tree.dotted(start)
    nodes = [node for body in bodies for node in tree.walk_block(body)] if name else []
    for node in nodes:
        if not isinstance(node, tree.Assign) or node.value is None:
            continue
        if any(tree.dotted(target) == name for target in node.targets):
            called = isinstance(node.value, tree.Call)
            if _counts(node.value) or (called and any(map(_gives, nodes))):
                return True
    return False


def _gives(node: tree.Node) -> bool:
    """Whether a function that loads returns what the checkpoint has counted."""
    return isinstance(node, tree.Return) and node.value is not None and _counts(node.value)


def _counts(value: tree.Expression) -> bool:
    return any(
        isinstance(n, tree.Subscript)
        and isinstance(n.index, tree.Constant)
        and isinstance(n.index.value, str)
        and _COUNTS.match(n.index.value)
        for n in value.walk()
    )


def _winds(timeline: Timeline) -> bool:
    """Whether the code sets the count of a schedule by hand, or reads a state of it in another way."""
    return _WINDS.search(timeline.home.text) is not None


_WINDS = re.compile(
    r"last_epoch|\b__dict__\b|\bvars\(|\bsetattr\(|__setstate__|(?i:sched\w*\.(load_state_dict|_step_count)|\[\W*sched)"
)


class Crossed(NamedTuple):
    """The state of one optimizer, that another one is given as well."""

    first: LoadState
    second: LoadState
    state: str


def crossed(timeline: Timeline) -> Iterator[Crossed]:
    """The states that two optimizers are given that have nothing in common."""
    given: dict[tuple[int, str], LoadState] = {}
    for event in timeline.events(LoadState):
        optimizer, node = only(event.subject, Optimizer), event.place.node
        state = node.args[0].value if isinstance(node, tree.Call) and len(node.args) == 1 else None
        if optimizer is None or not isinstance(state, tree.Subscript) or not isinstance(state.index, tree.Constant):
            continue
        text = repair.text(Place(event.place.chunk, state))
        first = given.setdefault((id(event.place.chunk), text), event)
        other = only(first.subject, Optimizer)
        if other is not None and other is not optimizer and first.place != event.place:
            if shares(other, optimizer) is NO:
                yield Crossed(first, event, text)


class Early(NamedTuple):
    """A copy of a model, made before its state was loaded, and where it runs."""

    copy: Thing
    run: Forward


def copied_before(timeline: Timeline, load: LoadState) -> Early | None:
    """The copy of a model that is used with the weights which it had before its state was loaded."""
    model = only(load.subject, Module)
    if model is None or not model.certain or _pretrained(model):
        return None
    for later in after(timeline, load):
        copy = later.subject.core if isinstance(later, Forward) else None
        if copy is None or copy.copy_of is None or copy.copy_of.core is not model.core or copy.serial > load.serial:
            continue
        if copy.escaped or any(
            _touches(e, copy, model, load) for e in timeline.events(LoadState, Consume, Unknown, Step)
        ):
            return None
        assert isinstance(later, Forward)
        return Early(copy, later)
    return None


def _touches(event: Event, copy: Thing, model: Thing, load: LoadState) -> bool:
    """Whether the weights of a copy are, or may be, more than those of a model that was just made."""
    subject = only(event.subject)
    if isinstance(event, LoadState):
        earlier = (
            event is not load and event.serial < copy.serial and subject is not None and subject.core is model.core
        )
        return earlier or (subject is not None and subject.core is copy)
    if isinstance(event, Consume):
        of = nature(event.subject, Parameters)
        return of is not None and only(of.of) is copy
    if isinstance(event, Step):
        return event.serial < copy.serial
    return event.subject is None or subject is copy


def _pretrained(model: Thing) -> bool:
    """Whether a model may have its weights from somewhere else when it is made."""
    args = model.args
    if args is None:
        return True
    return any(
        re.search(r"(?i)pretrain|weights|checkpoint|ckpt", name) and not (isinstance(v, Constant) and not v.value)
        for name, v in args.keywords.items()
    )
