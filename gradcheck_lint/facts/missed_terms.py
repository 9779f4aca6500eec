"""Terms of a loss that come to nothing which the next steps move, though they were computed with what these have.

`reach` tells a term that has no graph. A term may have one and miss its aim all the same: what the generator is to
learn from `critic(fake.detach())` goes to the critic, which another optimizer has.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradcheck_lint.facts import query
from gradcheck_lint.facts.effects import DRAWS
from gradcheck_lint.facts.led_to import Led, led_to
from gradcheck_lint.facts.penalties import operations
from gradcheck_lint.facts.reach import Cutting, Term, reaching, terms, weighs
from gradcheck_lint.facts.refused import estimates
from gradcheck_lint.facts.unreached import blamed, held_part, steps_after
from gradcheck_lint.laws.answer import NO
from gradcheck_lint.laws.reach import Effect
from gradcheck_lint.source import events as ev
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source.holding import Held, held_by
from gradcheck_lint.source.natures import Module, Optimizer
from gradcheck_lint.source.operations import How
from gradcheck_lint.source.place import Place
from gradcheck_lint.source.values import Thing, things


class Missed(NamedTuple):
    """A term that does not train what it was computed with: a part of an optimizer, which is `cut` off in it.

    `sure` if the term leads to nothing at all, so that no other step can use what it leaves, and was cut off further
    back than where it is added.
    """

    backward: ev.Backward
    term: Term
    step: ev.Step
    part: Thing
    cut: Cutting
    sure: bool

    def blamed(self, timeline: tl.Timeline) -> Place | None:
        """What stands where the part was cut off: what switched the gradients off, if that is seen to be around it."""
        return blamed(timeline, self.cut)


def missed(timeline: tl.Timeline) -> Iterator[Missed]:
    """The terms that train nothing of what the steps behind their backward move, beside others that do."""
    if timeline.cut or not timeline.has(ev.Step):
        return
    for backward in timeline.events(ev.Backward):
        if "try" in backward.context:
            continue
        steps = steps_after(timeline, backward)
        optimizers = {one.serial: one for step in steps for one in things(step.subject, Optimizer)}
        held = [held_by(one) for one in optimizers.values()]
        if not held or any(one.unknown for one in held) or any(one.summary for one in optimizers.values()):
            continue
        found = [one for part in terms(backward.subject) for one in _averaged(part)]
        parts = [part for part, _ in found]
        led = [led_to(part.value) for part in parts] if len(parts) > 1 else []
        if not any(_comes_to(one, held) for one in led):
            continue
        for (part, within), one in zip(found, led, strict=True):
            lost = None if one.open else _cut(one, held, within)
            if lost is None or _comes_to(one._replace(through={}) if lost[1].name in DRAWS else one, held):
                continue  # of a draw it is known what was run for it
            if lost[1].name not in DRAWS and estimates(reaching(timeline), part, parts):
                continue
            nothing = not any(map(_learns, (*one.alive.values(), *one.through.values())))
            itself = lost[1].thing is part.value or part.negative  # a constant that is added may be meant
            sure = nothing and not itself and timeline.owner is None and not query.unseen(timeline)
            yield Missed(backward, part, steps[0], *lost, sure)


def _averaged(part: Term) -> list[tuple[Term, bool]]:
    """A term, or those within its mean: `(a * logp - q).mean()` is a sum of two means."""
    made = part.value.made if isinstance(part.value, Thing) else None
    if made is None or made.how is not How.METHOD or made.name not in ("mean", "sum"):
        return [(part, False)]
    inner = terms(made.base)
    return [(one, True) for one in inner] if len(inner) > 1 else [(part, False)]


def _comes_to(led: Led, held: list[Held]) -> bool:
    """Whether a gradient comes to something that an optimizer has, for all that is known."""
    alive = (*led.alive.values(), *led.through.values())
    return any(held_part(one, h, led) or any(one is t for t in h.tensors) for one in alive for h in held)


def _learns(one: Thing) -> bool:
    """Whether something may have parameters: a criterion of torch has none."""
    return not (isinstance(one.what, Module) and one.class_name.startswith("torch.nn.") and weighs(one) is NO)


def _cut(led: Led, held: list[Held], within: bool) -> tuple[Thing, Cutting] | None:
    """A part of an optimizer that was run for a term, and cut off in it: the last one before the backward.

    What was cut off earlier is often meant, as what a loop has collected is. So are constants `within` a mean, as in
    `(new - old).mean()`, unless they were drawn.
    """
    found = [
        (part, cut)
        for part, cut in led.cut.values()
        if cut.effect is Effect.CUT and isinstance(part.what, Module) and any(held_part(part, h, led) for h in held)
        if not within or cut.name in DRAWS
    ]
    part, last = max(found, key=lambda pair: pair[1].thing.serial, default=(None, None))
    if part is None or last is None:
        return None
    # a policy is to learn by its log-probabilities, whatever else of the term is taken as given
    learned = [cut for cut in led.cuts if cut.effect is Effect.CUT and _of_log_prob(cut)]
    return part, max(learned, key=lambda cut: cut.thing.serial, default=last)


def _of_log_prob(cut: Cutting) -> bool:
    return any(made.name == "log_prob" for made in operations(cut.thing))
