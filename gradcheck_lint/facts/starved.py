"""Optimizers to which no backward comes: every loss leads to other networks, all of which are known.

Whoever builds an optimizer and steps it wants something to move, so this is never meant, whatever the reason is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradcheck_lint.facts import query
from gradcheck_lint.facts.given_away import given_away
from gradcheck_lint.facts.led_to import Led
from gradcheck_lint.facts.reach import terms
from gradcheck_lint.facts.unreached import backwards, before_step, held_part, other_gradients, touches
from gradcheck_lint.source import events as ev
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source import tree
from gradcheck_lint.source.holding import Held, held_by
from gradcheck_lint.source.natures import Argument, Module, Opaque, Parameters, Tensor, nature
from gradcheck_lint.source.values import ClassValue, Constant, External, Thing, Value, contents, only


class Starved(NamedTuple):
    """An optimizer of `model` to which nothing comes, the backward before its step, and the networks behind that."""

    built: ev.BuildOptimizer
    step: ev.Step
    backward: ev.Backward
    model: Thing
    behind: tuple[Thing, ...]

    @property
    def copied(self) -> bool:
        """Whether it has a copy of what is trained."""
        of = self.model.core.copy_of
        return of is not None and any(one.core is of.core for one in self.behind)


def starved(timeline: tl.Timeline) -> list[Starved]:
    """The optimizers for which nothing makes gradients, though others get some; found once for all rules."""
    return query.once(timeline, _found)


def _found(timeline: tl.Timeline) -> list[Starved]:
    return list(_starved(timeline))


def _starved(timeline: tl.Timeline) -> Iterator[Starved]:
    if timeline.cut or timeline.hooked or timeline.owner is not None:
        return
    if not timeline.has(ev.Step) or not timeline.has(ev.BuildOptimizer) or timeline.has(ev.GradWrite):
        return
    led = backwards(timeline)
    if not led or any(found.open for _, found in led) or other_gradients(timeline):
        return
    if any(event.engine or event.inputs is not None or "try" in event.context for event, _ in led):
        return
    for built in timeline.events(ev.BuildOptimizer):
        optimizer = built.subject
        step = next((e for e in timeline.events(ev.Step) if e.concerns(optimizer)), None)
        if step is None or optimizer.summary or not _starves(timeline, held_by(optimizer), led):
            continue
        if query.unseen(timeline, optimizer):
            continue
        own = before_step(timeline, optimizer) or [led[0][0]]
        behind = next(found for event, found in led if event is own[0])
        trained = [one for one in _trained(behind) if isinstance(one.what, Module)]
        if trained and not given_away(timeline, held_by(optimizer)):
            yield Starved(built, step, own[0], held_by(optimizer).modules[0], tuple(trained))


def _starves(timeline: tl.Timeline, held: Held, led: list[tuple[ev.Backward, Led]]) -> bool:
    """Whether all is known that an optimizer has, and all that the losses lead to, and they have nothing in common."""
    if held.unknown or not held.modules or held.tensors:
        return False
    if not all(one.certain and isinstance(one.what, Module) and not one.summary for one in held.modules):
        return False
    for backward, found in led:
        for one in (*found.alive.values(), *found.through.values()):
            if held_part(one, held, found) or any(_shares(timeline, one, module) for module in held.modules):
                return False
            if not _known(timeline, one, backward):
                return False
    return True


def _trained(found: Led) -> list[Thing]:
    """What a loss leads to that has parameters, the modules that were followed first."""
    every = [*found.through.values(), *(one for one in found.alive.values() if not _bare(one))]
    return list({id(one): one for one in every}.values())


def _bare(one: Thing) -> bool:
    return one.class_name.startswith("torch.nn.") and one.class_name.endswith("Loss")


def _shares(timeline: tl.Timeline, one: Thing, module: Thing) -> bool:
    """Whether something may have parts of a module: it was made of them, or was given some of its weights."""
    if one.copy_of is not None:
        return not one.certain
    if one in module.deps or module in one.deps or touches(one, module):
        return True
    given: list[Value | None] = list(one.args.all()) if one.args is not None else []
    given += [
        e.value
        for e in timeline.events(ev.Put)
        if isinstance(e.subject, Thing) and isinstance(e.subject.what, Module) and touches(e.subject, one)
    ]
    return any(
        isinstance(part, Thing) and (touches(part, module) or module in part.deps)
        for value in given
        for part in contents(value)
    )


def _known(timeline: tl.Timeline, one: Thing, backward: ev.Backward) -> bool:
    """Whether it is known what something is to which a backward comes, so that it is nothing that leads on."""
    if isinstance(one.what, Module):
        return one.certain and not one.summary and isinstance(one.cls, (ClassValue, External))
    if isinstance(one.what, Tensor):
        return one.what.leaf is True and one.args is not None
    if isinstance(one.what, Parameters):
        of = nature(one, Parameters)
        return of is not None and of.of is not None
    return isinstance(one.root.via, Argument) or _carried(timeline, one, backward)


def _carried(timeline: tl.Timeline, one: Thing, backward: ev.Backward) -> bool:
    """Whether it is the sum of a loop's earlier rounds: each round adds a term of the same kind to it."""
    if not isinstance(one.what, Opaque) or not one.label or one.made is not None or one.parent is not None:
        return False
    if not any(term.value is one for term in terms(backward.subject)):
        return False
    given = [e.value for e in timeline.events(ev.Assign) if tree.dotted(e.target) == one.label]
    sums = [value for value in given if not isinstance(value, Constant)]
    return bool(sums) and all(len(terms(value)) > 1 and only(value) is not None for value in sums)
