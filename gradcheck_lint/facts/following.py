"""Networks that are to follow the one that is trained, target networks and averages, and never do.

Either they give their own weights to the network that they should follow, which undoes what the steps did to it, or
nothing is ever written into a copy that is evaluated in the place of what was trained.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from gradcheck_lint.facts.order import after
from gradcheck_lint.facts.penalties import came_of, operations
from gradcheck_lint.facts.reach import terms
from gradcheck_lint.facts.unreached import backwards, held_part, touches, twins
from gradcheck_lint.laws.answer import YES
from gradcheck_lint.laws.mode import OFF
from gradcheck_lint.source import events as ev
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source.holding import held_by
from gradcheck_lint.source.natures import Module, Optimizer, Parameters, StateDict, Tensor, nature, stored
from gradcheck_lint.source.operations import How, Operation
from gradcheck_lint.source.values import Thing, Value, only, options, things


class Write(NamedTuple):
    """Tensors of a network, or all of it, are written: with those of the networks `sources`, as far as that is seen."""

    event: ev.Event
    network: Thing
    sources: frozenset[Thing]


class WrongWay(NamedTuple):
    """What writes the weights of `target`, which nobody moves, into the `network` that it should follow."""

    write: Write
    target: Thing
    run: ev.Forward
    step: ev.Step


class Still(NamedTuple):
    """An average, by its name, that was copied from `network`, is run when that was trained, and never written."""

    copied: ev.Build
    network: Thing
    run: ev.Forward
    step: ev.Step


class Pulled(NamedTuple):
    """An average that an optimizer has as well, and a loss trains: where it runs for that, and where it is written."""

    run: Operation
    average: Thing
    write: Write
    backward: ev.Backward
    step: ev.Step


_ALL = re.compile(r"torch\._foreach_\w*_|torch\.nn\.utils\.(?:convert_parameters\.)?vector_to_parameters")
_WRITING = frozenset({"copy_", "lerp_", "mul_", "add_", "sub_", "set_"})


def owner(value: Value | None) -> Thing | None:
    """The network that a tensor is a parameter of, or `.data` of one."""
    kept = stored(value)
    if kept is not None:
        return kept.of.core
    thing = only(value)
    while thing is not None:
        if isinstance(thing.what, Tensor) and thing.what.element_of is not None:
            given = nature(thing.what.element_of, Parameters)
            found = given.of if given is not None else thing.what.element_of
            return found.core if found is not None and isinstance(found.what, Module) else None
        thing = thing.parent[0] if thing.parent is not None and thing.parent[1] == "data" else None
    return None


def writes(timeline: tl.Timeline) -> list[Write] | None:
    """All that is written into networks; None where it is not known into which one."""
    found: list[Write] = []
    for event in timeline.events(ev.LoadState, ev.TorchCall, ev.SetData):
        if isinstance(event, ev.TorchCall) and _ALL.fullmatch(event.name):
            written = _of_all(event)
            if written is None:
                return None
            found.append(written)
            continue
        if isinstance(event, ev.LoadState):
            state = nature(only(event.state), StateDict)
            sources = frozenset([state.of.core]) if state is not None else frozenset[Thing]()
            found += [Write(event, to.core, sources) for to in things(event.subject, Module)]
            continue
        if isinstance(event, ev.TorchCall):
            if event.name not in _WRITING:
                continue
            to, given = owner(event.receiver), list(event.args.positional)
        else:
            to, given = owner(event.subject), [event.value]
        if to is None:
            return None
        met = [owner(one) for value in given for one in came_of(value)]
        found.append(Write(event, to, frozenset(one for one in met if one is not None)))
    return found


def _of_all(event: ev.TorchCall) -> Write | None:
    """What one call writes into all parameters of a network; None where it is not known of which one."""
    back = event.name.endswith("vector_to_parameters")
    to = _network(event.args.get(1, "parameters") if back else event.args.get(0, "self"))
    given = event.args.positional[:1] if back else event.args.positional[1:]
    if to is None:
        return None
    met = [_network(made) for value in given for made in came_of(value)]
    return Write(event, to, frozenset(one for one in met if one is not None))


def _network(value: Value | None) -> Thing | None:
    """The network whose parameters a value are, all together or one."""
    given = nature(value, Parameters)
    return given.of.core if given is not None and given.of is not None else owner(value)


def wrong_way(timeline: tl.Timeline) -> Iterator[WrongWay]:
    """Where a network is given the weights of a target that never moves."""
    if not _seen(timeline):
        return
    found = writes(timeline) or []
    for write in found:
        step = _trained_by(timeline, write.network, after(timeline, write.event))
        targets = [one for one in write.sources if one is not write.network]
        if step is None or len(targets) != 1 or not _in_loop(timeline, write.event):
            continue
        (target,) = targets
        if _moved(timeline, target, found) or not _copy(timeline, target, write.network, found):
            continue
        run = next((e for e in timeline.events(ev.Forward) if e.subject.core is target and e.context & OFF), None)
        if run is not None and _in_loop(timeline, run):
            yield WrongWay(write, target, run, step)


def still(timeline: tl.Timeline) -> Iterator[Still]:
    """The averages that are copied, evaluated and never moved."""
    if not _seen(timeline) or not timeline.has(ev.Step):
        return
    for copied in timeline.events(ev.Build):
        average = copied.subject
        network = average.copy_of.core if average.copy_of is not None else None
        if network is None or not isinstance(average.what, Module) or not _named(timeline, average):
            continue
        later = after(timeline, copied)
        step = _trained_by(timeline, network, later)
        found = writes(timeline)
        if step is None or found is None or any(touches(one.network, average) for one in found):
            continue
        runs = [e for e in later if isinstance(e, ev.Forward) and touches(e.subject, average)]
        loops = {id(part) for part, _ in timeline.path(step) if isinstance(part, tl.Loop) and not part.once}
        if any(id(part) in loops for run in runs for part, _ in timeline.path(run)):
            continue  # a teacher or a reference that is to stay what it is
        if any(_may_write(event, average) for event in timeline.events(ev.Unknown)):
            continue
        if runs and not any(e.concerns(average) for e in timeline.events(ev.Average, ev.SetAttribute)):
            yield Still(copied, network, runs[0], step)


def _may_write(event: ev.Unknown, average: Thing) -> bool:
    """Whether something that was not followed may move an average: it has it, or changes a tensor in place."""
    return event.name.endswith("_") or any(touches(thing, average) for thing in things(event.subject))


def pulled(timeline: tl.Timeline) -> Iterator[Pulled]:
    """The averages of another network that a loss trains beside."""
    if not _seen(timeline) or timeline.has(ev.Freeze):
        return
    averages = [one for one in writes(timeline) or () if _averages(timeline, one)]
    if not averages:
        return
    held = [(step, held_by(o)) for step in timeline.events(ev.Step) for o in things(step.subject, Optimizer)]
    for backward, led in backwards(timeline):
        for write in averages:
            runs = [one for one in led.alive.values() if one is write.network or twins(one, write.network)]
            others = [one for one in led.alive.values() if any(one is s or twins(one, s) for s in write.sources)]
            if len(others) == len(runs) or any(other.network in write.sources for other in averages if other != write):
                continue  # the other network is not trained here, or is moved towards this one in its turn
            step = next((step for step, has in held if runs and held_part(runs[0], has, led)), None)
            if step is None or led.open:
                continue
            for made in operations(backward.subject):
                if made.how is How.CALL and isinstance(made.base, Thing) and made.base.core is runs[0]:
                    if made.recorded is YES and made.place is not None:
                        yield Pulled(made, write.network, write, backward, step)
                        break


def _averages(timeline: tl.Timeline, write: Write) -> bool:
    """Whether a write moves a network towards another one, in a loop: it is made of the weights of both."""
    event = write.event
    given = event.value if isinstance(event, ev.SetData) else None
    if isinstance(event, ev.TorchCall):
        if event.name == "lerp_":
            return bool(write.sources - {write.network}) and _in_loop(timeline, event)
        given = event.args.get(0, "src") if event.name == "copy_" else None
    sums = any(len(terms(option)) == 2 for option in options(given))
    return sums and len(write.sources) == 2 and write.network in write.sources and _in_loop(timeline, event)


def _seen(timeline: tl.Timeline) -> bool:
    """Whether all that may be done with the networks is in the timeline, and training is among it."""
    return not (timeline.cut or timeline.hooked or timeline.owner is not None) and timeline.has(ev.Step)


def _trained_by(timeline: tl.Timeline, network: Thing, later: list[ev.Event]) -> ev.Step | None:
    """The step that moves a network, among some events."""
    for event in later:
        if not isinstance(event, ev.Step):
            continue
        for optimizer in things(event.subject, Optimizer):
            held = held_by(optimizer)
            if not held.unknown and any(one.core is network for one in held.modules):
                return event
    return None


def _in_loop(timeline: tl.Timeline, event: ev.Event) -> bool:
    return any(isinstance(part, tl.Loop) and not part.once for part, _ in timeline.path(event))


def _moved(timeline: tl.Timeline, target: Thing, found: list[Write]) -> bool:
    """Whether something moves a target once the training goes on."""
    if any(one.network is target and _in_loop(timeline, one.event) for one in found):
        return True
    for event in timeline.events(ev.Unknown):
        if event.subject is None or any(isinstance(o, Thing) and touches(o, target) for o in options(event.subject)):
            return True
    return any(
        held.unknown or any(touches(one, target) for one in held.modules)
        for held in map(held_by, timeline.optimizers())
    )


def _copy(timeline: tl.Timeline, target: Thing, network: Thing, found: list[Write]) -> bool:
    """Whether a target began as a copy of a network."""
    if target.copy_of is not None and target.copy_of.core is network:
        return True
    return any(one.network is target and network in one.sources for one in found)


def _named(timeline: tl.Timeline, average: Thing) -> bool:
    """Whether a copy, or the class of what has it, is called an average."""
    names = [average.label, *(owner.class_name for owner in average.owners), *(o.label for o in average.owners)]
    for event in timeline.events(ev.SetAttribute):
        if only(event.value) is average:
            names += [event.attr, *(name for one in things(event.subject) for name in (one.class_name, one.label))]
    return any(AVERAGE.search(name) for name in names)


AVERAGE = re.compile(
    r"(?:^|_|[a-z])(?:EMA|Ema|SWA|Swa|Average|Averaged)(?:_|$|[A-Z])|^(?:EMA|Ema|SWA|Average)"
    r"|(?:^|_)(?:ema|swa|avg|average|averaged)(?:_|$)"
)
