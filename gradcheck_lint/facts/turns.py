"""What a breach of the cycle comes down to in the code: which call is at fault, and what stands where beside it.

The protocol's machine says that a step used the wrong gradients. The rules ask here which backward or which clearing
is the one to point at, and which statements of the same block a fix can build on.
"""

from __future__ import annotations

from typing import NamedTuple

from gradcheck_lint.facts.order import after
from gradcheck_lint.facts.query import named_only
from gradcheck_lint.facts.repair import Stand, argument, receiver, stand
from gradcheck_lint.laws.answer import NO, YES
from gradcheck_lint.source import tree
from gradcheck_lint.source.breach import Breach
from gradcheck_lint.source.events import Backward, Clip, Event, Forward, Step, Unknown, Update, Zero
from gradcheck_lint.source.holding import shares, trains
from gradcheck_lint.source.natures import Optimizer, Scaler
from gradcheck_lint.source.place import Place
from gradcheck_lint.source.timeline import Branch, Call, Jump, Loop, Part, Sequence, Timeline
from gradcheck_lint.source.values import Constant, External, only, options, things

NEVER, OUTSIDE, OTHER = "never", "outside", "other"


class Carried(NamedTuple):
    """A backward that adds to spent gradients: whether they are cleared NEVER, OUTSIDE of the loop, or for an OTHER.

    `made` is the backward, `cleared` the clearing that is in the wrong place or of the wrong optimizer; NEVER with one
    is where a step has come between the two. `at` is where the code that runs the backward clears, or has it done by
    a call. `certain` is False where the other optimizer may hold the same parameters.
    """

    how: str
    made: Event
    cleared: Event | None
    certain: bool
    at: Place | None = None


def carried(breach: Breach) -> Carried | None:
    """What is at fault where a step uses gradients of earlier steps."""
    optimizer = breach.optimizer
    made = _own_backward(breach)
    if made is None or named_only(breach.timeline, "zero_grad", optimizer):
        return None
    if breach.cleared:
        cleared = breach.cleared[-1]
        rounds = _loops(breach.timeline, cleared)
        how = OUTSIDE if any(loop not in rounds for loop in _loops(breach.timeline, made)) else NEVER
        return Carried(how, made, cleared, breach.certain)
    other = _other(breach, made)
    at = _seen_from(breach.timeline, made, other) if other is not None else None
    if other is not None and at is not None:
        known = all(shares(thing, optimizer) is NO for thing in things(other.subject, Optimizer))
        return Carried(OTHER, made, other, breach.certain and known, at)
    return Carried(NEVER, made, None, breach.certain)


def _loops(timeline: Timeline, event: Event) -> list[Loop]:
    """The loops around an event that go round more than once."""
    return [step for step, _ in timeline.path(event) if isinstance(step, Loop) and not step.once]


def _seen_from(timeline: Timeline, made: Event, other: Event) -> Place | None:
    """Where the code that runs a backward, in the same round, does what another event is, or calls what does it."""
    if any(loop not in _loops(timeline, other) for loop in _loops(timeline, made)):
        return None
    here = [step for step, _ in timeline.path(made) if isinstance(step, Call)]
    there = [step for step, _ in timeline.path(other) if isinstance(step, Call)]
    if there[: len(here)] != here:
        return None  # in another function, which is there for something else
    return there[len(here)].place if len(there) > len(here) else other.place


def _own_backward(breach: Breach) -> Event | None:
    """The backward that the step is for: the first of those that stand before it with no other step in between.

    Gradients may have been stale before that, by a backward that was meant for another network.
    """
    events = list(breach.timeline.events(Backward, Step, Zero))
    at = next(n for n, event in enumerate(events) if event is breach.event)
    run: list[Event] = []
    for event in reversed(events[:at]):
        if isinstance(event, Backward):
            run.insert(0, event)
        elif run:
            break
    found = run or list(breach.made)
    own = [e for e in found if trains(e.subject, breach.optimizer) is YES]
    return next(iter(own or found), None)


def _other(breach: Breach, made: Event) -> Event | None:
    """The clearing of another optimizer in front of a backward, if that other one is cleared again before it steps."""
    events = list(breach.timeline.events(Zero, Backward, Step))
    at = next(n for n, event in enumerate(events) if event is made)
    found: Event | None = None
    for event in reversed(events[:at]):
        if isinstance(event, Backward):
            break
        if isinstance(event, Zero) and things(event.subject, Optimizer):
            found = event
            break
    if found is None:
        return None
    for later in after(breach.timeline, found):
        if isinstance(later, (Step, Zero)) and any(later.concerns(thing) for thing in things(found.subject)):
            return None if isinstance(later, Step) else found  # a step uses what it was cleared for
    return found


def optimizer_of(step: Step) -> str:
    """What the code calls the optimizer at a step: `optimizer.step()` or `scaler.step(optimizer)`."""
    if step.closure is None and argument(step.place, 0):
        return argument(step.place, 0)
    return receiver(step.place)


def own_step(step: Step) -> bool:
    """Whether the step is a call of the optimizer's own method, not of a scaler's."""
    return not (step.closure is None and argument(step.place, 0))


class Beside(NamedTuple):
    """An event whose statement stands in the same block as another one."""

    event: Event
    stand: Stand


def beside(breach: Breach, event: Event, *kinds: type[Event]) -> list[Beside]:
    """The events of some kinds in the block that an event's statement stands in, in the order of the lines.

    Each statement counts once, and only if it is nothing but the call.
    """
    here = alone(event)
    if here is None:
        return []
    found: dict[int, Beside] = {}
    for other in breach.timeline.events(*kinds):
        if other.statement.chunk is not event.statement.chunk:
            continue
        where = alone(other)
        if where is not None and where.beside(here):
            found.setdefault(where.position, Beside(other, where))
    return [found[position] for position in sorted(found)]


def alone(event: Event) -> Stand | None:
    """Where the event's statement stands, if it is the call and nothing else."""
    node = event.statement.node
    whole = isinstance(node, tree.Evaluate) and node.value is event.place.node
    by_hand = isinstance(node, tree.Assign) and len(node.targets) == 1 and node.targets[0] is event.place.node
    return stand(event.statement) if whole or by_hand else None


def swapped(breach: Breach) -> bool:
    """Whether a step stands before the backward that it is for, so that the next round clears what this one makes."""
    order = {id(event): number for number, event in enumerate(breach.timeline.events(Backward, Step))}
    return bool(breach.made) and all(order[id(made)] > order[id(breach.event)] for made in breach.made)


def measures(clip: Clip) -> bool:
    """Whether a clipping has no bound, and so only measures the norm."""
    bound = clip.norm
    for option in options(bound):
        if isinstance(option, External) and option.name.rpartition(".")[2] == "inf":
            return True
        if isinstance(option, Constant) and isinstance(option.value, float) and option.value > 1e15:
            return True
    return False


def trained(breach: Breach) -> bool:
    """Whether a step is a part of training: it stands in a loop that runs a model, or a backward, as well.

    A step outside of all loops, or in one that does neither, is there for a schedule that counts it. Where a backward
    is named and not called, that is what is wrong.
    """
    one_of_several = id(breach.optimizer)  # `for optimizer in optimizers` comes to it once
    loops = [s for s in breach.around if isinstance(s, Loop) and not s.once and one_of_several not in s.elements]
    if named_only(breach.timeline, "backward"):
        return False
    if not loops:
        return _goes_backward_later(breach)
    events = [event for event, around in breach.timeline.located() if loops[-1] in around]
    return any(
        isinstance(event, Forward)
        or (isinstance(event, Backward) and trains(event.subject, breach.optimizer) is not NO)
        for event in events
    )


def erased_on_some_path(breach: Breach) -> bool:
    """Whether a clearing that an empty step follows stands behind a backward that no step has used before it."""
    events = list(breach.timeline.events(Backward, Step, Zero))
    for cleared in breach.cleared:
        if cleared.serial > breach.event.serial:
            continue  # in the round before
        before = [
            e for e in events if e.serial < cleared.serial and (isinstance(e, Backward) or e.concerns(breach.optimizer))
        ]
        last = before[-1] if before else None
        if isinstance(last, Backward) and trains(last.subject, breach.optimizer) is YES:
            if _loops(breach.timeline, last) == _loops(breach.timeline, cleared):
                return True
    return False


def _goes_backward_later(breach: Breach) -> bool:
    """Whether, outside of all loops, a forward pass comes before a step and its backward after it, in one function."""
    events = list(breach.timeline.located())
    at = next(n for n, (event, _) in enumerate(events) if event is breach.event)
    return any(
        isinstance(event, Backward)
        and event.function is breach.event.function
        and not any(isinstance(part, Loop) and not part.once for part in around)
        and trains(event.subject, breach.optimizer) is not NO
        for event, around in events[at:]
    ) and any(isinstance(event, Forward) and event.function is breach.event.function for event, _ in events[:at])


def first_round(breach: Breach) -> Loop | None:
    """The loop whose first round an early schedule spoils.

    None where no step follows in that loop (the schedule is wound forward for a resumed run), or where a condition
    decides whether it moves (it may well be false in the first round), unless the step depends on it too.
    """
    loops = [step for step in breach.around if isinstance(step, Loop) and not step.once]
    if not loops:
        return None
    timeline = breach.timeline
    taken = [e for e, a in timeline.located(Step) if loops[-1] in a and e.concerns(breach.optimizer)]
    path = timeline.path(breach.event)
    inside = path[1 + max(n for n, (part, _) in enumerate(path) if part is loops[-1]) :]
    for branch, arm in inside:
        if isinstance(branch, Branch) and not _present(branch.test):
            if not any((branch, arm) in timeline.path(step) for step in taken):
                return None  # else both are taken in the same rounds
    return loops[-1] if taken else None


def _present(test: tree.Expression | None) -> bool:
    """Whether a condition only asks if something is there: `scheduler`, `scheduler is not None`."""
    if isinstance(test, tree.Operation) and test.op in ("is not", "!=") and isinstance(test.operands[1], tree.Constant):
        return test.operands[1].value is None
    return isinstance(test, (tree.Name, tree.Attribute)) and "sched" in tree.last_name(test).lower()


def jumps(step: Part) -> bool:
    """Whether something in a loop leaves a round early."""
    if isinstance(step, Jump):
        return step.kind is not tree.Exit.RAISE
    if isinstance(step, Sequence):
        return any(jumps(inner) for inner in step.steps)
    if isinstance(step, Branch):
        return any(jumps(arm) for arm in step.arms)
    return jumps(step.body) if isinstance(step, Loop) else False


def steps_never_updated(timeline: Timeline) -> list[Event]:
    """The steps of gradient scalers in loops that have no update of one, and hand it to no code that is not seen."""
    found: list[Event] = []
    for step, around in timeline.located(Step):
        scaler = only(step.scaler, Scaler)
        if scaler is None or not scaler.certain:
            continue
        loops = [outer for outer in around if isinstance(outer, Loop) and not outer.once]
        if not loops:
            continue
        seen = not (timeline.hooked or timeline.cut or named_only(timeline, "update"))
        if seen and not any(isinstance(event, (Update, Unknown)) for event, _ in timeline.within(loops[0])):
            found.append(step)
    return found


def updates_run_twice(timeline: Timeline) -> list[Event]:
    """The updates of gradient scalers that follow another one in the same run of statements, with no step between."""
    found: list[Event] = []
    last: tuple[Event, tuple[Part, ...]] | None = None
    if not timeline.has(Update):
        return []
    for event, around in timeline.located(Step, Unknown, Update):
        if isinstance(event, (Step, Unknown)):
            last = None
        else:
            scaler = only(event.subject, Scaler)
            if last is not None and scaler is not None and last[1] == around and only(last[0].subject) is scaler:
                found.append(event)
            last = event, around
    return found
