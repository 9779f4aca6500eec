"""Activation checkpoints of the reentrant kind whose inputs have no graph: what is inside of them gets no gradient.

Such a checkpoint runs its function where nothing is recorded, and records it anew in the backward, which comes to it
only through an input that requires grad. Parameters of the function are no inputs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from gradcheck_lint.facts.led_to import Walk
from gradcheck_lint.facts.penalties import operations
from gradcheck_lint.facts.reach import Cutting, Reaching, reaching, weighs
from gradcheck_lint.facts.unreached import is_part, makes, touches
from gradcheck_lint.laws.answer import MAYBE, NO, YES, Answer
from gradcheck_lint.source import events as ev
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source import tree
from gradcheck_lint.source.layers import layer_of, slots
from gradcheck_lint.source.natures import Module
from gradcheck_lint.source.operations import How, Operation
from gradcheck_lint.source.values import ClassValue, Constant, FunctionValue, Partial, Thing, Value, only, options

_CHECKPOINTS = {"torch.utils.checkpoint.checkpoint": (1, 99), "torch.utils.checkpoint.checkpoint_sequential": (2, 3)}
"""The functions, with the position of the first input and that of `use_reentrant`."""
_OWN = frozenset({"use_reentrant", "preserve_rng_state", "context_fn", "determinism_check", "debug", "early_stop"})


class Severed(NamedTuple):
    """A checkpoint that no gradient passes; `behind` are the frozen modules that made its input, if any did."""

    call: Operation
    backward: ev.Backward
    behind: tuple[Thing, ...]
    said: bool
    sure: bool


_REQUIRES = re.compile(r"\brequires_grad_\((?!\s*False)|\brequires_grad\s*=\s*(?!False)")
"""What lets a gradient through an input, in the function that calls the checkpoint."""


def severed(timeline: tl.Timeline) -> Iterator[Severed]:
    """The checkpoints behind the losses of a timeline to which nothing comes that requires grad."""
    if timeline.cut or timeline.has(ev.ForwardHook):
        return  # a hook may make what a layer gives require grad, as `enable_input_require_grads()` does
    walk, told = reaching(timeline), set[int]()
    for backward in timeline.events(ev.Backward):
        for made in operations(backward.subject):
            if made.place is None or id(made.place.node) in told or made.recorded is not YES:
                continue
            said = reentrant(made)
            learns = _learns(timeline, made) if said is not None else NO
            if said is None or learns is NO:
                continue
            answer, behind = _graph(timeline, walk, made)
            if answer is YES or _REQUIRES.search(made.place.chunk.text):
                continue
            told.add(id(made.place.node))
            sure = answer is NO and learns is YES and not timeline.hooked
            yield Severed(made, backward, behind, said, sure)


def reentrant(made: Operation) -> bool | None:
    """Whether a checkpoint says that it is reentrant, or is so because it says nothing; None for all else."""
    if made.how is not How.FUNCTION or made.name not in _CHECKPOINTS:
        return None
    given = (made.keywords or {}).get("use_reentrant")
    at = _CHECKPOINTS[made.name][1]
    if given is None and len(made.args) > at:
        given = made.args[at]
    if given is None:
        return None if "**" in (made.keywords or {}) else False
    if not isinstance(given, Constant) or given.value not in (True, None):
        return None
    return given.value is True


def inputs(made: Operation) -> list[Value]:
    """What the function of a checkpoint is called with."""
    first, flag = _CHECKPOINTS[made.name]
    return [*made.args[first:flag], *(v for k, v in (made.keywords or {}).items() if k not in _OWN)]


class _Inputs(Walk):
    """Goes through checkpoints as a gradient does: only by their inputs."""

    def operation(self, thing: Thing, made: Operation, by: Cutting | None) -> None:
        if reentrant(made) is None:
            super().operation(thing, made, by)
            return
        for one in inputs(made):
            self.add(one, by)


def _graph(timeline: tl.Timeline, walk: Reaching, made: Operation) -> tuple[Answer, tuple[Thing, ...]]:
    """Whether an input of a checkpoint requires grad, and the frozen modules that it comes of."""
    answer: Answer = NO
    behind: dict[int, Thing] = {}
    for one in inputs(made):
        found = walk.of(one)
        if found.grad is NO:
            answer = answer if found.certain else MAYBE
            continue
        led = _Inputs().run(one)
        if led.open:
            return YES, ()
        for part in led.alive.values():
            if isinstance(part.what, Module) and weighs(part) is NO:
                continue
            if walk.of(part).grad is NO:
                answer = answer if walk.of(part).certain else MAYBE
            elif not isinstance(part.what, Module) or not frozen(timeline, part):
                return YES, ()
            else:
                behind[id(part)] = part
    return answer, tuple(behind.values())


def frozen(timeline: tl.Timeline, part: Thing) -> bool:
    """Whether all parameters of a module were frozen, and nobody may have thawed one."""
    found = False
    for event in timeline.events(ev.Freeze):
        owner = event.subject
        if not isinstance(owner, Thing):
            return False
        if event.value is not False:
            if touches(owner, part) or not owner.certain or owner.summary:
                return False
        elif isinstance(owner.what, Module) or _is_called(timeline, owner, part):
            within = is_part(part, owner, {}) or _is_called(timeline, owner, part)
            found = found or (within and (event.how != "attribute" or event.thing is not owner))
        elif event.thing.parent is not None and (
            event.thing.parent[0].core is part or _is_called(timeline, event.thing.parent[0], part)
        ):
            found = found or [slot.name for slot in slots(layer_of(part), part.args) or ()] == [event.thing.parent[1]]
    return found and not any(
        e.subject is None or any(isinstance(o, Thing) and touches(o, part) for o in options(e.subject))
        for e in timeline.events(ev.Grow)
    )


def _is_called(timeline: tl.Timeline, attribute: Thing, part: Thing) -> bool:
    """Whether an attribute of the one model that has such a part is that part, or has it.

    The parts of a model are made anew where its `forward` is looked at.
    """
    base, name = attribute.parent if attribute.parent is not None else (None, "")
    if base is None or part.place is None or not isinstance(base.core.cls, ClassValue):
        return False
    init = base.core.cls.member("__init__")
    for statement in init.function.body if isinstance(init, FunctionValue) else ():
        if isinstance(statement, tree.Assign) and statement.value is not None:
            if f"self.{name}" in map(tree.dotted, statement.targets):
                if any(node is part.place.node for node in statement.value.walk()):
                    return len([e for e in timeline.events(ev.Build) if makes(e.subject.core, part)]) == 1
    return False


def _learns(timeline: tl.Timeline, made: Operation) -> Answer:
    """Whether the function of a checkpoint has parameters that are to be trained."""
    function = only(made.args[0]) if made.args else None
    if function is None:
        inside = made.args[0] if made.args else None
        bound = isinstance(inside, FunctionValue) and isinstance(inside.receiver, Thing)
        return MAYBE if bound or isinstance(inside, (FunctionValue, Partial)) else NO
    if isinstance(function.what, Module):
        return NO if weighs(function) is NO or frozen(timeline, function) else YES
    above = function.parent[0] if function.parent is not None else None
    if above is not None and isinstance(above.core.what, Module):
        return NO if frozen(timeline, above) else YES
    return MAYBE
