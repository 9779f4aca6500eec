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
from gradcheck_lint.facts.led_to import Led, Walk, led_to
from gradcheck_lint.facts.reach import Cutting
from gradcheck_lint.facts.unreached import backwards, held_part, steps_after
from gradcheck_lint.source import events as ev
from gradcheck_lint.source import limits
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source.holding import held_by
from gradcheck_lint.source.natures import Module
from gradcheck_lint.source.operations import How, Operation
from gradcheck_lint.source.place import Place
from gradcheck_lint.source.values import Thing, contents

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
        wanted = [(thing, place) for thing in led.draws if (place := _wanted(timeline, thing)) is not None]
        if not wanted or any(_goes_on(backward, thing) for thing in led.draws):
            continue  # what was drawn is what the next one is drawn by, as a sequence is that a network goes on with
        for thing, place in wanted:
            if id(place.node) in told:
                continue
            found = _trained(timeline, backward, thing, led)
            if found is not None:
                told.add(id(place.node))
                beside = _Beside(thing)
                beside.run(backward.subject)
                sure = (
                    not led.open
                    and not beside.found
                    and timeline.owner is None
                    and not timeline.hooked
                    and not query.unseen(timeline)
                )
                yield Drawn(backward, *found, place, sure)


def _wanted(timeline: tl.Timeline, draw: Thing) -> Place | None:
    """Where something is drawn, if a gradient through it can have been wanted."""
    place = draw.made.place if draw.made is not None else None
    return place if place is not None and _pathwise(draw) and not _learned_by(timeline, place) else None


def _trained(timeline: tl.Timeline, backward: ev.Backward, thing: Thing, led: Led) -> tuple[ev.Step, Thing] | None:
    """A part that made the distribution and gets a gradient of the loss in another way, and the step that moves it.

    It is what the distribution is made of directly: what lies further back may be there for the other parts as well, as
    an encoder is that an actor and its critic share.
    """
    made = thing.made.base if thing.made is not None else None
    parts = [one for one in _Nearest().run(made).alive.values() if isinstance(one.what, Module)]
    if not parts or not all(id(one) in led.alive for one in parts):
        return None
    steps = steps_after(timeline, backward)
    for optimizer in timeline.optimizers():
        held = held_by(optimizer)
        if held.unknown or optimizer.summary or not any(step.concerns(optimizer) for step in steps):
            continue
        step = next(e for e in timeline.events(ev.Step) if e.concerns(optimizer))
        if all(held_part(part, held, led) for part in parts):
            return step, parts[0]
    return None


def _goes_on(backward: ev.Backward, draw: Thing) -> bool:
    """Whether a draw is used in the next round of the loop that draws it, or the one before it was used for it."""
    if draw.made is None or draw.made.place is None:
        return False
    if led_to(draw.made.base).draws:
        return True
    walk = _Earlier(draw, draw.made.place)
    walk.run(backward.subject)
    return walk.found


class _Earlier(Walk):
    """Walks back from a loss, to see whether a call that stands before a draw in the code is given it."""

    def __init__(self, draw: Thing, place: Place) -> None:
        super().__init__()
        self.draw, self.place = draw, place
        self.found = False

    def operation(self, thing: Thing, made: Operation, by: Cutting | None) -> None:
        if made.how is How.CALL and made.place is not None and made.place.chunk is self.place.chunk:
            if made.place.node.at.start < self.place.node.at.start:
                self.found = self.found or any(self.draw in led_to(argument).draws for argument in made.args)
        super().operation(thing, made, by)


class _Nearest(Walk):
    """Walks back to the first layers that are met, and no further."""

    def called(self, made: Operation, by: Cutting | None) -> None:
        if made.inner is None and isinstance(made.base, Thing) and isinstance(made.base.what, Module):
            self.add(made.base, by)
        else:
            super().called(made, by)


class _Beside(Walk):
    """Walks back from a loss, to see whether something is handed over together with a draw: an action and its state."""

    def __init__(self, draw: Thing) -> None:
        super().__init__()
        self.draw = draw
        self.found = False

    def operation(self, thing: Thing, made: Operation, by: Cutting | None) -> None:
        if made.how is How.CALL or made.name in _TOGETHER:
            given = {id(one): one for arg in made.args for one in contents(arg) if isinstance(one, Thing)}
            self.found = self.found or (len(given) > 1 and any(self.drew(one) for one in given.values()))
        super().operation(thing, made, by)

    def drew(self, value: Thing) -> bool:
        """Whether it is the draw, or something that was made of it alone."""
        for _ in range(limits.PARENTS):
            if value is self.draw:
                return True
            inner = value.made.base if value.made is not None and value.made.how is How.METHOD else None
            if not isinstance(inner, Thing):
                return False
            value = inner
        return False


_TOGETHER = frozenset({"torch.cat", "torch.concat", "torch.concatenate", "torch.stack", "torch.hstack"})


def _pathwise(thing: Thing) -> bool:
    found = distribution_of(thing.made.base) if thing.made is not None else None
    return found is not None and found in _PATHWISE


def _learned_by(timeline: tl.Timeline, place: Place) -> bool:
    """Whether log-probabilities are asked for, in the file of the draw or in that of the loop."""
    modules = timeline.home.project.modules.values()
    texts = [m.text for m in modules if m is not None and m.path == place.chunk.path]
    return any(_LIKELIHOOD.search(text) for text in (timeline.home.text, *texts))
