"""Terms of a loss that come to nothing which the next steps move, though they were computed with what these have.

`reach` tells a term that has no graph. A term may have one and miss its aim all the same: what the generator is to
learn from `critic(fake.detach())` goes to the critic, which another optimizer has.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradcheck_lint.facts.led_to import Led, led_to
from gradcheck_lint.facts.order import after
from gradcheck_lint.facts.reach import Cutting, reaching, terms
from gradcheck_lint.facts.refused import estimates
from gradcheck_lint.facts.unreached import held_part
from gradcheck_lint.laws.reach import Effect
from gradcheck_lint.source import events as ev
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source.holding import Held, held_by
from gradcheck_lint.source.natures import Module, Optimizer
from gradcheck_lint.source.values import Thing, things


class Missed(NamedTuple):
    """A term that does not train what it was computed with: a part of an optimizer, which is `cut` off in it."""

    backward: ev.Backward
    step: ev.Step
    part: Thing
    cut: Cutting


def missed(timeline: tl.Timeline) -> Iterator[Missed]:
    """The terms that train nothing of what the steps behind their backward move, beside others that do."""
    if timeline.cut or not timeline.has(ev.Step):
        return
    for backward in timeline.events(ev.Backward):
        if "try" in backward.context:
            continue
        steps = _steps(timeline, backward)
        optimizers = {one.serial: one for step in steps for one in things(step.subject, Optimizer)}
        held = [held_by(one) for one in optimizers.values()]
        if not held or any(one.unknown for one in held) or any(one.summary for one in optimizers.values()):
            continue
        parts = terms(backward.subject)
        led = [led_to(part.value) for part in parts] if len(parts) > 1 else []
        aimed = [_comes_to(one, held) for one in led]
        if not any(aimed):
            continue
        for part, one, good in zip(parts, led, aimed, strict=True):
            found = None if good or one.open else _cut(one, held)
            if found is None or estimates(reaching(timeline), part, parts):
                continue
            yield Missed(backward, steps[0], found[0], found[1])


def _steps(timeline: tl.Timeline, backward: ev.Backward) -> list[ev.Step]:
    """The steps on what a backward leaves, before the next one."""
    found: list[ev.Step] = []
    for event in after(timeline, backward):
        if isinstance(event, ev.Backward):
            break
        if isinstance(event, ev.Step):
            found.append(event)
    return found


def _comes_to(led: Led, held: list[Held]) -> bool:
    """Whether a gradient comes to something that an optimizer has, for all that is known."""
    alive = (*led.alive.values(), *led.through.values())
    return any(held_part(one, h, led) or any(one is t for t in h.tensors) for one in alive for h in held)


def _cut(led: Led, held: list[Held]) -> tuple[Thing, Cutting] | None:
    """A part of an optimizer that was run for a term, and cut off in it."""
    for part, cut in led.cut.values():
        if cut.effect is Effect.CUT and isinstance(part.what, Module) and any(held_part(part, h, led) for h in held):
            return part, cut
    return None
