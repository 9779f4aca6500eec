"""Losses of something that was drawn by `sample`, which has no gradient: what made the distribution learns nothing.

A draw is data where its log-probability is what is learned by, as in REINFORCE. Where nobody asks for that, and the
draw goes through other layers into a loss, it is the gradient of the draw itself that was wanted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from gradcheck_lint.facts import query
from gradcheck_lint.facts.effects import distribution_of
from gradcheck_lint.facts.led_to import Led, led_to
from gradcheck_lint.facts.unreached import backwards, before_step, held_part
from gradcheck_lint.source import events as ev
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source.holding import held_by
from gradcheck_lint.source.natures import Module
from gradcheck_lint.source.place import Place
from gradcheck_lint.source.values import Thing

_PATHWISE = frozenset(
    "Normal LogNormal MultivariateNormal LowRankMultivariateNormal Laplace Gamma Beta Dirichlet Exponential Uniform"
    " StudentT Gumbel Cauchy HalfNormal HalfCauchy Kumaraswamy Weibull Pareto LogisticNormal RelaxedBernoulli"
    " RelaxedOneHotCategorical Chi2 FisherSnedecor InverseGamma Wishart".split()
)
"""The distributions that have `rsample`."""


_LIKELIHOOD = re.compile(r"log_prob|(?i:nll|likelihood|reinforce)")
"""What speaks of learning by the probability of what was drawn."""


class Drawn(NamedTuple):
    """What is drawn, at a place, of what `part` gave, and goes into the loss of a backward, behind which a step is."""

    backward: ev.Backward
    step: ev.Step
    part: Thing
    place: Place
    sure: bool


def drawn(timeline: tl.Timeline) -> Iterator[Drawn]:
    """The draws through which a gradient was wanted, where what made the distribution is trained by something else."""
    if timeline.cut or not timeline.has(ev.Step):
        return
    told: set[int] = set()
    for backward, led in backwards(timeline):
        if any(_again(thing) for thing in led.draws):
            continue  # what was drawn is what the next one is drawn by, as a sequence is that a network goes on with
        for thing in led.draws:
            place = thing.made.place if thing.made is not None else None
            if place is None or id(place.node) in told or not _pathwise(thing) or _learned_by(timeline, place):
                continue
            found = _trained(timeline, backward, thing, led)
            if found is not None:
                told.add(id(place.node))
                sure = not led.open and timeline.owner is None and not timeline.hooked and not query.unseen(timeline)
                yield Drawn(backward, *found, place, sure)


def _trained(timeline: tl.Timeline, backward: ev.Backward, thing: Thing, led: Led) -> tuple[ev.Step, Thing] | None:
    """A part that made the distribution and gets a gradient of the loss in another way, and the step that moves it."""
    made = thing.made.base if thing.made is not None else None
    behind = led_to(made)
    parts = [one for one in behind.alive.values() if isinstance(one.what, Module) and id(one) in led.alive]
    for optimizer in timeline.optimizers() if parts else ():
        held = held_by(optimizer)
        if held.unknown or optimizer.summary or backward not in before_step(timeline, optimizer):
            continue
        step = next(e for e in timeline.events(ev.Step) if e.concerns(optimizer))
        for part in parts:
            if held_part(part, held, led):
                return step, part
    return None


def _again(thing: Thing) -> bool:
    """Whether the distribution of a draw was computed with another draw."""
    return thing.made is not None and bool(led_to(thing.made.base).draws)


def _pathwise(thing: Thing) -> bool:
    found = distribution_of(thing.made.base) if thing.made is not None else None
    return found is not None and found in _PATHWISE


def _learned_by(timeline: tl.Timeline, place: Place) -> bool:
    """Whether log-probabilities are asked for, in the file of the draw or in that of the loop."""
    modules = timeline.home.project.modules.values()
    texts = [m.text for m in modules if m is not None and m.path == place.chunk.path]
    return any(_LIKELIHOOD.search(text) for text in (timeline.home.text, *texts))
