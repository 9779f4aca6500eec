"""What a step makes of the weights: does it move them, by how much, and does half precision keep the change?

Of each layer a piece of the largest weight is kept before the update and compared after it: at the early samples with
what the gradient should have done, later for the size of the update only. Works with the plans and readings of
`values`, which is asked before.

Sightings: NoEffect, LostToRounding, and the kind of `history` that is about updates.
"""

from __future__ import annotations

import math
import weakref
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from gradcheck_lint.runtime import reading
from gradcheck_lint.runtime.check import Check
from gradcheck_lint.runtime.checks.numbers.plans import Plan, Plans
from gradcheck_lint.runtime.checks.numbers.values import Values
from gradcheck_lint.runtime.sampling import EARLY
from gradcheck_lint.runtime.sightings.numbers import LostToRounding, NoEffect, Reason

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

    from gradcheck_lint.runtime.observer import Observer
    from gradcheck_lint.runtime.session import Session
    from gradcheck_lint.runtime.sites import Mark

SELDOM = 4  # each so many one of the later samples compares weights
WIDE = 8  # elements of a weight, for its size to mean something
STUCK = 3  # samples at which nothing had moved, where that may be meant
PLAINLY = 2  # and where it cannot be
SLOWLY = 4  # and where momentum may still gather what is needed
PATIENCE = 200  # steps of a loss of exactly 0, as a goal that nobody has reached or a margin that all keep gives it
_FEW = 0.25  # of the elements that got a gradient


class _Weights:
    """The weights of one plan that are compared, and what became of them."""

    def __init__(self) -> None:
        self.chosen: list[list[int]] = []  # of each layer the largest that gets gradients, as `alike`
        self.owners: dict[int, Tensor] = {}  # see _Block, by place in `chosen`
        self.sample = 0  # the step of the latest
        self.later = 0  # how many there were after the early ones
        self.stuck: list[tuple[int, str]] = []  # steps at which nothing moved, and why
        self.rate: float | None = None  # the highest, at the latest early sample
        self.rounding: dict[int, list[tuple[int, int]]] = {}  # by parameter: step, and if it was lost


class _Block(NamedTuple):
    """Pieces of chosen weights of one device and dtype, one after another, as they were before a step."""

    chosen: list[int]
    lengths: list[int]
    owner: Tensor  # for each element, which of the chosen it belongs to
    values: Tensor
    fed: Tensor | None  # where they have a gradient; only at the early samples
    should: Tensor | None  # where the update is far larger than a rounding error


class _Before(NamedTuple):
    """What the chosen weights were before a step."""

    plan: Plan
    weights: _Weights
    step: int
    mark: Mark | None
    blocks: list[_Block]
    rates: list[float | None]
    backwards: list[int]  # the orders of those that have made its gradients


class _Effect(NamedTuple):
    """What became of a piece of one weight: the elements with a gradient, those that moved, and that had to move."""

    which: int
    half: str  # the dtype if it is one of half precision
    fed: int
    moved: int
    should: int


class _How(NamedTuple):
    """How an optimizer makes its updates."""

    own: bool  # it is one of torch's
    direct: bool
    scheduled: bool
    rate: float | None  # the highest


class Effects(Check):
    """Compares weights before and after the update, seldom."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._weights: weakref.WeakKeyDictionary[Plan, _Weights] = weakref.WeakKeyDictionary()
        self._before: dict[int, _Before] = {}
        self._moving: set[int] = set()  # the optimizers that have moved a weight
        self._idle: dict[int, NoEffect] = {}  # those whose losses were 0 so far, and so may have nothing to learn yet

    @property
    def _plans(self) -> Plans:
        return self.session.check(Values).plans

    # Before the step

    def before_update(self, observer: Observer, mark: Mark | None) -> None:
        if not observer.reads:
            return

        import torch

        step = observer.watched.steps
        plan = self._plans.of(observer)
        optimizer = observer.optimizer
        if plan is None or plan.sample != step or not plan.fed or optimizer is None:
            return
        weights = self._weights.get(plan)
        if weights is None:
            weights = self._weights[plan] = _Weights()
        if weights.sample == step:
            return  # a closure that is called again
        weights.sample = step
        weights.later += step not in EARLY
        if step in EARLY or weights.later % SELDOM == 1:
            parameters = observer.parameters()
            with torch.no_grad():
                _choose(plan, weights, parameters)
                blocks, rates = _keep(weights, optimizer, parameters, early=step in EARLY)
            backwards = [event.order for event in observer.window]
            self._before[observer.watched.index] = _Before(plan, weights, step, mark, blocks, rates, backwards)

    # After it

    def after_update(self, observer: Observer) -> None:
        before = self._before.pop(observer.watched.index, None) if self._before else None
        if before is None or before.step != observer.watched.steps:
            return

        import torch

        parameters = observer.parameters()
        if len(parameters) != len(before.plan.ids):
            return
        with torch.no_grad():
            found = []
            for block in before.blocks:
                now = torch.cat([reading.piece(reading.local(parameters[index])) for index in block.chosen])
                if now.shape != block.values.shape or now.device != block.values.device:
                    return
                found.append(_compared(now, block))
            self._plans.later.read(found, partial(self._updates, observer, before))

    def _updates(self, observer: Observer, before: _Before, values: list[list[float]]) -> None:
        """How far the chosen weights have moved is known."""
        plan, plans = before.plan, self._plans
        add, whose = self.session.series.add, plans.whose(observer)
        ratios, effects = {}, []
        for block, flat in zip(before.blocks, values, strict=True):
            half = reading.half(block.values)
            wide = len(flat) // len(block.chosen)
            for place, index in enumerate(block.chosen):
                row = flat[place * wide : (place + 1) * wide]
                moved, weight = math.sqrt(row[0]), math.sqrt(row[1])
                if moved != 0:
                    self._moving.add(observer.watched.index)
                if weight > 0 and math.isfinite(moved) and math.isfinite(weight):
                    layer = plan.layers[index]
                    add(f"update/{whose}/{layer}", before.step, moved / weight)
                    if block.lengths[place] >= WIDE:
                        ratios[layer] = moved / weight
                if wide > 2:
                    effects.append(_Effect(index, half, *map(int, row[2:])))
        plans.changed(observer, before.mark, before.step, plan.history.updates(before.step, ratios))
        if effects:
            self._judge_effect(observer, before, effects)

    # Whether it moves anything

    def _judge_effect(self, observer: Observer, before: _Before, effects: list[_Effect]) -> None:
        plan, stuck = before.plan, before.weights.stuck
        optimizer = observer.optimizer
        if optimizer is None:
            return
        own = type(optimizer).__module__.startswith("torch.optim")
        plainly = bool({kind.__name__ for kind in type(optimizer).__mro__} & (_GRADIENT | _FULL_RATE))
        known = [rate for rate in before.rates if rate is not None]
        how = _How(
            own,
            _direct(optimizer),
            scheduled=any("initial_lr" in group for group in optimizer.param_groups),
            rate=max(known, default=None),
        )
        fed, moved = sum(effect.fed for effect in effects), sum(effect.moved for effect in effects)
        should = sum(effect.should for effect in effects)
        if (
            self._lost(observer, before, effects, how)
            or observer.watched.index in self._moving
            or observer.stepping.pauses
        ):
            return
        if len(known) == len(before.rates) and not any(known):
            reason: Reason = "rate"
        elif plan.total == 0:
            idle = self.session.check(Values).nothing_lost(before.backwards)
            reason = "loss" if idle else "gradient"
        elif fed and should * 2 > fed and not moved:
            reason = "step"
        else:
            return
        stuck.append((before.step, reason))
        enough = PLAINLY if reason == "step" and own and plainly else STUCK
        if len(stuck) < enough or len({why for _, why in stuck}) > 1:
            return
        half = next((effect.half for effect in effects if effect.half), "")
        sighting = NoEffect(
            observer.scene(before.mark, before.step),
            names=tuple(plan.names[effect.which] for effect in effects),
            reason=reason, own=own, half=half, scheduled=how.scheduled, rate=how.rate,
        )  # fmt: skip
        if reason == "loss":
            self._idle[observer.watched.index] = sighting
        elif self._plans.is_new(observer, NoEffect, len(stuck)):
            self.session.take(sighting)

    def _lost(self, observer: Observer, before: _Before, effects: list[_Effect], how: _How) -> bool:
        """Whether updates of half precision weights vanish when they are rounded."""
        names, rounding = before.plan.names, before.weights.rounding
        lost, fed, moved = [], 0, 0
        rate, before.weights.rate = before.weights.rate, how.rate
        grows = how.scheduled and (rate is None or how.rate is None or how.rate > rate)  # a warm-up is not over
        enough = PLAINLY if how.direct else SLOWLY
        for effect in effects:
            if not effect.half or effect.fed < WIDE or before.rates[effect.which] in (0, None):
                continue
            fed, moved = fed + effect.fed, moved + effect.moved
            seen = rounding.setdefault(effect.which, [])
            few = effect.moved < _FEW * effect.fed and effect.should * 2 <= effect.fed
            seen.append((before.step, int(few)))
            if few and len(seen) >= enough and all(was for _, was in seen):
                lost.append(effect)
        if not lost:
            return any(seen and seen[-1] == (before.step, 1) for seen in rounding.values())
        if self._plans.is_new(observer, LostToRounding, grows):
            self.session.take(
                LostToRounding(
                    observer.scene(before.mark, before.step),
                    names=tuple(names[effect.which] for effect in lost),
                    share=sum(effect.moved for effect in lost) / sum(effect.fed for effect in lost),
                    most=moved < _FEW * fed,
                    dtype=lost[0].half,
                    own=how.own,
                    grows=grows,
                    rate=how.rate,
                )
            )
        return True

    def ended(self) -> None:
        self._before.clear()
        for observer in self.session.observers.values():
            idle = self._idle.get(observer.watched.index)
            if idle is not None and observer.steps >= PATIENCE and observer.watched.index not in self._moving:
                self.session.take(idle)


def _choose(plan: Plan, weights: _Weights, parameters: list[Tensor]) -> None:
    """Of each layer the largest parameter that has a gradient now."""
    having = set(plan.fed)
    if weights.chosen and all(index in having for part in weights.chosen for index in part):
        return
    best: dict[str, int] = {}
    for index in plan.fed:
        layer = plan.layers[index]
        if layer not in best or parameters[index].numel() > parameters[best[layer]].numel():
            best[layer] = index
    wanted = set(best.values())
    weights.chosen = [part for alike in plan.alike if (part := [index for index in alike if index in wanted])]
    weights.owners = {}


def _keep(
    weights: _Weights, optimizer: Optimizer, parameters: list[Tensor], *, early: bool
) -> tuple[list[_Block], list[float | None]]:
    """Copy a piece of each chosen weight, to be compared when the step is done."""
    import torch

    rates = _rates(optimizer, len(parameters)) if early else []
    blocks = []
    for place, part in enumerate(weights.chosen):
        pieces = [reading.piece(reading.local(parameters[index])) for index in part]
        lengths = [one.numel() for one in pieces]
        values = torch.cat(pieces)
        owner = weights.owners.get(place)
        if owner is None or len(owner) != len(values):
            numbers = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
            weights.owners[place] = owner = numbers.to(values.device)
        fed = should = None
        if early:
            grads = [reading.piece_of_gradient(parameters[index], one) for index, one in zip(part, pieces, strict=True)]
            grad = torch.cat(grads)
            fed = grad != 0
            rate = [rates[index] or 0.0 for index in part]
            change = _least_change(optimizer, grad, rate, owner)
            should = (change > values.abs() * torch.finfo(values.dtype).eps) & fed
        blocks.append(_Block(part, lengths, owner, values, fed, should))
    return blocks, rates


def _rates(optimizer: Optimizer, number: int) -> list[float | None]:
    """The learning rate of each parameter, None where reading it would make an accelerator wait."""
    rates: list[float | None] = []
    for group in optimizer.param_groups:
        rates += [reading.rate(group)] * len(group["params"])
    return rates if len(rates) == number else [None] * number


def _compared(now: Tensor, block: _Block) -> Tensor:
    """For each chosen weight the square of how far it moved, that of its size, and the counts of an _Effect."""
    import torch

    wide = torch.float64 if now.dtype == torch.float64 else torch.float32
    before = block.values.to(wide)
    change = now.to(wide) - before
    columns = [change.square(), before.square()]
    if block.fed is not None and block.should is not None:
        columns += [block.fed.to(wide), ((change != 0) & block.fed).to(wide), block.should.to(wide)]
    sums = torch.zeros((len(block.chosen), len(columns)), dtype=wide, device=now.device)
    return sums.index_add_(0, block.owner, torch.stack(columns, 1))


_GRADIENT = frozenset({"SGD", "ASGD"})  # the update is the rate times the gradient
_FULL_RATE = frozenset({"Adam", "AdamW", "Adamax", "NAdam", "Adagrad", "RMSprop"})


def _direct(optimizer: Optimizer) -> bool:
    """Whether the updates do not grow from step to step, as those of plain momentum do."""
    names = {kind.__name__ for kind in type(optimizer).__mro__}
    if names & _GRADIENT:
        return not any(group.get("momentum") for group in optimizer.param_groups)
    return bool(names & _FULL_RATE)


def _least_change(optimizer: Optimizer, grad: Tensor, rates: list[float], owner: Tensor) -> Tensor:
    """How far the step moves each weight, told too small rather than too large."""
    import torch

    rate: Tensor | float = rates[0]
    if len(set(rates)) > 1:
        rate = torch.tensor(rates, dtype=torch.float32).to(grad.device)[owner]
    size = grad.abs().float()
    names = {kind.__name__ for kind in type(optimizer).__mro__}
    if names & _GRADIENT:
        return size * rate * 0.1
    if names & _FULL_RATE:
        return (size > 1e-6) * rate * 0.1
    return size.clamp(max=1) * rate * 1e-4
