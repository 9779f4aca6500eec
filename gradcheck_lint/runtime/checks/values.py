"""What the numbers say: is the loss finite, are the gradients, do the updates move the weights, and by how much?

Values are read at a few early steps and then at each step that is checked in full, many tensors with one call. On the
CPU the loss of each backward is read too, which costs less than a microsecond. On an accelerator nothing waits: see
`later`.

Sightings: "loss-not-finite", "gradient-not-finite", "weight-not-finite", "no-effect", "lost-to-rounding",
"gradient-underflow", and the kinds of `history`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from gradcheck_lint.runtime import sites
from gradcheck_lint.runtime.checks import Check
from gradcheck_lint.runtime.checks.history import Change, History
from gradcheck_lint.runtime.later import Later
from gradcheck_lint.runtime.layers import layers
from gradcheck_lint.runtime.sampling import EARLY

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import CodeType

    from torch import Tensor
    from torch.optim import Optimizer

    from gradcheck_lint.runtime.observer import Observer
    from gradcheck_lint.runtime.record import Event
    from gradcheck_lint.runtime.session import Session
    from gradcheck_lint.runtime.sites import Mark

PIECE = 256  # elements of a weight that are kept from before a step to after it
SELDOM = 4  # each so many one of the later samples compares weights
WIDE = 8  # elements of a weight, for its size to mean something
_LOSSES = 8  # lines that call backward whose losses are kept apart
STUCK = 3  # samples at which nothing had moved, where that may be meant
PLAINLY = 2  # and where it cannot be
SLOWLY = 4  # and where momentum may still gather what is needed
HALF_NORMAL = 2.0**-14  # the smallest float16 with all its bits
LOOKED_AT = 8  # parameters whose gradient is looked at more closely at one step
ENOUGH = 32  # elements, for a part of them to mean something
_SOME = 0.1  # of a gradient is zero
_FEW = 0.05  # of the elements that got a gradient


def sampled(observer: Observer) -> bool:
    """Whether values are read at this step, which is checked in full."""
    return observer.sampling.reads(observer.watched.steps) and not capturing()


def capturing() -> bool:
    """Whether work on an accelerator is being recorded to be played again; ours must not be in it."""
    import torch

    started: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return started and torch.cuda.is_current_stream_capturing()


def plain(tensor: Tensor) -> Tensor | None:
    """The values that a tensor has on this rank, without the graph; None if they are not to be had."""
    local = tensor.detach()
    local = getattr(local, "_local_tensor", local)  # DTensor: reading the whole would make the ranks talk
    if local.is_meta or not (local.is_floating_point() or local.is_complex()):
        return None
    if local.is_sparse:
        local = local._values()
    return local if local.numel() else None


def piece(tensor: Tensor) -> Tensor:
    """The first elements of a tensor, one after another; a view where that can be."""
    import torch

    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    if tensor.numel() > PIECE and not tensor.is_contiguous():
        row = tensor.numel() // tensor.shape[0]
        tensor = tensor[: -(-PIECE // row)]
    flat = tensor.reshape(-1)
    return flat[:PIECE] if flat.numel() > PIECE else flat


def finite(tensor: Tensor) -> bool:
    """Whether all values are finite. Reads them, so only where something is amiss."""
    return bool(tensor.isfinite().all())


def lost_bits(grad: Tensor) -> float | None:
    """The part of zeros in a gradient whose values float16 has all but lost; None if it has not.

    Reads values, so only where the norm is that small. Below 2^-14 float16 has fewer bits the smaller a number is, and
    none below 2^-24. A float32 gradient that was computed in float16 shows it by being exactly of that grid.
    """
    import torch

    size = grad.abs()
    top = float(size.max())
    if top == 0 or top >= HALF_NORMAL or grad.is_complex():
        return None
    if grad.dtype == torch.float32:
        if not torch.equal(size.half().float(), size):
            return None
    elif grad.dtype != torch.float16:
        return None
    zeros = float((size == 0).float().mean())
    return zeros if zeros >= _SOME else None


class _Loss(NamedTuple):
    """A loss that is not finite."""

    order: int  # of the backward
    value: float
    mark: Mark | None
    scaled: bool


class _Bad(NamedTuple):
    """Gradients that are not finite, until it is known what the step makes of them."""

    step: int
    indices: list[int]
    fed: int
    mark: Mark | None
    backward: Mark | None


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

    step: int
    mark: Mark | None
    blocks: list[_Block]
    rates: list[float | None]


class _Effect(NamedTuple):
    """What became of a piece of one weight: the elements with a gradient, those that moved, and that had to move."""

    which: int
    half: str  # the dtype if it is one of half precision
    fed: int
    moved: int
    should: int


@dataclass
class _Plan:
    """How the parameters of one optimizer are looked at, and what was seen."""

    ids: list[int]
    names: list[str]
    layers: list[str]
    alike: list[list[int]]  # by device and dtype
    chosen: list[list[int]] = field(default_factory=list)  # of those, of each layer the largest that gets gradients
    owners: dict[int, Tensor] = field(default_factory=dict)  # see _Block, by place in `chosen`
    history: History = field(default_factory=History)
    moved: bool = False
    stuck: list[tuple[int, str]] = field(default_factory=list)
    rounding: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    total: float = math.nan
    sample: int = 0  # the step of the latest
    later: int = 0  # how many there were after the early ones
    bad: _Bad | None = None
    faint: dict[int, list[tuple[int, float]]] = field(default_factory=dict)  # by parameter: step and part of zeros


class Values(Check):
    """Reads values, seldom."""

    always = frozenset({"backward_begins"})

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.later = Later()
        self._plans: dict[int, _Plan] = {}
        self._before: dict[int, _Before] = {}
        self._losses: list[_Loss] = []
        self._loss_names: dict[tuple[CodeType, int], str] = {}
        self._told: set[tuple[str, int]] = set()

    # The loss

    def backward_begins(self, roots: Sequence[Tensor], event: Event, options: dict[str, Any]) -> None:
        if len(roots) != 1 or event.order < 0:
            return
        loss = roots[0]
        if loss.is_cpu:
            if loss.numel() != 1 or loss.is_complex():
                return
            value = loss.item()
            if not math.isfinite(value):
                self._losses.append(_Loss(event.order, value, event.mark or sites.here(2), event.how != "plain"))
            elif self._losses:
                self._losses = []
            self._remember_loss(self._coming(), value, event.mark)
        elif loss.numel() == 1 and not loss.is_meta and self.session.options.level != "light" and not capturing():
            if any(o.thorough and o.sampling.reads(o.watched.steps + 1) for o in self.session.observers.values()):
                self.later.read([loss], partial(self._late_loss, self._coming(), event))

    def _coming(self) -> int:
        """The step that comes next, of the optimizer that has made most of them."""
        return 1 + max([observer.watched.steps for observer in self.session.observers.values()], default=0)

    def _remember_loss(self, step: int, value: float, mark: Mark | None) -> None:
        series = self.session.record.series.setdefault(self._loss_name(mark), [])
        if not series or series[-1][0] != step:
            series.append((step, value))

    def _loss_name(self, mark: Mark | None) -> str:
        """ "loss" for the first line that calls backward, "loss/<what it is called on>" for each other."""
        if mark is None:
            return "loss"
        place = (mark.code, mark.line)
        name = self._loss_names.get(place)
        if name is None:
            site = sites.resolve(mark) if 0 < len(self._loss_names) < _LOSSES else None
            what = site.text.partition(".backward")[0] if site is not None else "others"
            name = self._loss_names[place] = f"loss/{what}" if self._loss_names else "loss"
        return name

    def _late_loss(self, step: int, event: Event, values: list[list[float]]) -> None:
        value = values[0][0]
        self._remember_loss(step, value, event.mark)
        if math.isfinite(value) or event.how != "plain":
            return
        for observer in self.session.observers.values():
            if observer.latest.get("step") is not None and self._spoilt(observer):
                self._sight_once(observer, "loss-not-finite", event.mark, step=step, value=str(value), spoils=True)

    def stepped(self, observer: Observer, mark: Mark | None) -> None:
        if not self._losses:
            return
        made = {event.order for event in observer.window}
        used = [loss for loss in self._losses if loss.order in made]
        if not used or observer.scaler_stepping:
            return
        loss = used[0]
        self._losses = [loss for loss in self._losses if loss.order not in made]
        index = observer.watched.index
        if ("gradient-not-finite", index) in self._told or ("weight-not-finite", index) in self._told:
            return  # the loss only shows what was told
        if ("loss-not-finite", index) in self._told:
            return
        spoilt = self._spoilt(observer)
        step = observer.watched.steps
        if spoilt and step > 1:
            since, before = self._last_loss(step)
            self._sight_once(
                observer, "weight-not-finite", mark or sites.here(2), names=spoilt, step=step - 1, loss=before,
                since=since, total=len(observer.parameters()),
            )  # fmt: skip
        elif not spoilt:
            bad = any(p.grad is not None and not finite(p.grad.detach()) for p in observer.parameters())
            self._sight_once(
                observer, "loss-not-finite", loss.mark, value=str(loss.value), scaled=loss.scaled, spoils=bad
            )

    def _last_loss(self, step: int) -> tuple[int, float | None]:
        """The last loss before a step that was seen to be finite, and when."""
        series = self.session.record.series.get("loss", [])
        return next(((at, value) for at, value in reversed(series) if at < step and math.isfinite(value)), (0, None))

    def _spoilt(self, observer: Observer) -> tuple[str, ...]:
        """The weights that are not finite, as backward reaches them; reads all of them, on suspicion."""
        found = []
        first = {key: place for place, key in enumerate(observer.received)}
        for parameter in sorted(observer.parameters(), key=lambda p: first.get(id(p), len(first))):
            values = plain(parameter)
            if values is not None and not finite(values):
                found.append(observer.name(parameter))
        return tuple(found)

    # Before the step

    def before_update(self, observer: Observer, mark: Mark | None) -> None:
        import torch

        if self.later:
            self.later.poll()
        if not sampled(observer):
            return
        step = observer.watched.steps
        parameters = observer.parameters()
        plan = self._plan(observer, parameters)
        if plan.sample == step:
            return  # a closure that is called again
        plan.sample = step
        self._before.pop(observer.watched.index, None)
        optimizer = observer.optimizer
        if optimizer is None or getattr(optimizer, "grad_scale", None) is not None:
            return  # the optimizer divides by the scale itself, and may skip the update
        with torch.no_grad():
            found, order = _norms(plan.alike, parameters)
            if not order:
                return
            backward = observer.latest.get("backward")
            self.later.read(
                found,
                partial(self._gradients, observer, plan, step, mark, backward.mark if backward else None, order),
            )
            plan.later += step not in EARLY
            if step in EARLY or plan.later % SELDOM == 1:
                self._choose(plan, parameters, order)
                self._keep(observer, plan, step, mark, optimizer, parameters)

    def _plan(self, observer: Observer, parameters: list[Tensor]) -> _Plan:
        ids = [id(parameter) for parameter in parameters]
        index = observer.watched.index
        plan = self._plans.get(index)
        if plan is None or plan.ids != ids:
            names = [observer.name(parameter) for parameter in parameters]
            self._plans[index] = fresh = _Plan(ids, names, layers(names), _alike(parameters))
            if plan is not None:
                fresh.moved = plan.moved
            plan = fresh
        return plan

    @staticmethod
    def _choose(plan: _Plan, parameters: list[Tensor], fed: list[int]) -> None:
        """Of each layer the largest parameter that has a gradient now."""
        having = set(fed)
        if plan.chosen and all(index in having for part in plan.chosen for index in part):
            return
        best: dict[str, int] = {}
        for index in fed:
            layer = plan.layers[index]
            if layer not in best or parameters[index].numel() > parameters[best[layer]].numel():
                best[layer] = index
        wanted = set(best.values())
        plan.chosen = [part for alike in plan.alike if (part := [index for index in alike if index in wanted])]
        plan.owners = {}

    def _keep(
        self,
        observer: Observer,
        plan: _Plan,
        step: int,
        mark: Mark | None,
        optimizer: Optimizer,
        parameters: list[Tensor],
    ) -> None:
        """Copy a piece of each chosen weight, to be compared when the step is done."""
        import torch

        early = step in EARLY
        rates = _rates(optimizer, len(parameters)) if early else []
        blocks = []
        for place, part in enumerate(plan.chosen):
            pieces = [piece(_local(parameters[index])) for index in part]
            lengths = [one.numel() for one in pieces]
            values = torch.cat(pieces)
            owner = plan.owners.get(place)
            if owner is None or len(owner) != len(values):
                numbers = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
                plan.owners[place] = owner = numbers.to(values.device)
            fed = should = None
            if early:
                grads = [_piece_of_gradient(parameters[index], one) for index, one in zip(part, pieces, strict=True)]
                grad = torch.cat(grads)
                fed = grad != 0
                rate = [rates[index] or 0.0 for index in part]
                change = _least_change(optimizer, grad, rate, owner)
                should = (change > values.abs() * torch.finfo(values.dtype).eps) & fed
            blocks.append(_Block(part, lengths, owner, values, fed, should))
        self._before[observer.watched.index] = _Before(step, mark, blocks, rates)

    def _gradients(
        self,
        observer: Observer,
        plan: _Plan,
        step: int,
        mark: Mark | None,
        backward: Mark | None,
        order: list[int],
        values: list[list[float]],
    ) -> None:
        """The norms of the gradients are known; `order` says whose they are."""
        flat = [value for part in values for value in part]
        squares: dict[str, float] = {}
        bad = []
        for index, norm in zip(order, flat, strict=True):
            if not math.isfinite(norm):
                bad.append(index)
            else:
                squares[plan.layers[index]] = squares.get(plan.layers[index], 0.0) + norm * norm
        if bad:
            plan.total = math.nan
            self._not_finite(observer, plan, _Bad(step, sorted(bad), len(flat), mark, backward))
            return
        self._underflow(observer, plan, step, mark, dict(zip(order, flat, strict=True)))
        found = {layer: math.sqrt(square) for layer, square in squares.items()}
        plan.total = math.sqrt(sum(squares.values()))
        series, whose = self.session.record.series, self._whose(observer)
        for layer, norm in found.items():
            series.setdefault(f"gradient/{whose}/{layer}", []).append((step, norm))
        self._changed(observer, mark, step, plan.history.gradients(found))

    def _changed(self, observer: Observer, mark: Mark | None, step: int, changes: list[Change]) -> None:
        """Tell each kind of change once, and again when it is extreme: of the layer in which it is worst."""
        for kind in dict.fromkeys(change.kind for change in changes):
            alike = [change for change in changes if change.kind == kind]
            worst = max(alike, key=lambda change: abs(math.log((change.now or 1e-30) / (change.usual or 1e-30))))
            if worst.always:
                worst = min(alike, key=lambda change: change.now)
            # a parameter before a norm may get nothing but rounding errors; a chain of layers does not
            extreme = worst.extreme and not (worst.always and len(alike) == 1)
            self._sight_once(
                observer, kind, mark, key=f"{kind} {extreme}", names=(worst.layer,), step=step, now=worst.now,
                usual=worst.usual, extreme=extreme, always=worst.always, layers=len(alike),
            )  # fmt: skip

    # Gradients that are not finite

    def _not_finite(self, observer: Observer, plan: _Plan, bad: _Bad) -> None:
        if ("gradient-not-finite", observer.watched.index) in self._told:
            return
        if bad.step != observer.watched.steps:  # known late: what has become of the weights tells whether it was so
            self._tell_gradient(observer, plan, bad)
            return
        parameters = observer.parameters()
        sure = []
        for index in bad.indices:
            grad = parameters[index].grad
            values = plain(grad) if grad is not None else None
            if values is not None and not finite(values):
                sure.append(index)
        if sure:
            plan.bad = bad._replace(indices=sure)

    def _tell_gradient(self, observer: Observer, plan: _Plan, bad: _Bad) -> None:
        told = {("loss-not-finite", observer.watched.index), ("weight-not-finite", observer.watched.index)}
        if told & self._told:
            return  # the first that was not finite is known
        # the parameter that backward reached first is the nearest to the cause
        first = {key: place for place, key in enumerate(observer.received)}
        order = sorted(bad.indices, key=lambda index: first.get(plan.ids[index], len(first)))
        since, loss = self._last_loss(bad.step + 1)
        self._sight_once(
            observer,
            "gradient-not-finite",
            bad.mark,
            names=tuple(plan.names[index] for index in order),
            step=bad.step,
            made=bad.backward,
            total=bad.fed,
            loss=loss,
            since=since,
            spoilt=self._spoilt(observer),
        )

    # Gradients that are too small for their dtype

    def _underflow(
        self, observer: Observer, plan: _Plan, step: int, mark: Mark | None, found: dict[int, float]
    ) -> None:
        parameters = observer.parameters()
        if step != observer.watched.steps or len(parameters) != len(plan.ids):
            return
        if step not in EARLY:
            return
        suspects = []
        for index, norm in found.items():
            if 0 < norm < 1:
                size = parameters[index].numel()
                if size >= ENOUGH and norm < HALF_NORMAL * math.sqrt(size):
                    suspects.append(index)
        faint = []
        for index in suspects[:: -(-len(suspects) // LOOKED_AT) or 1]:
            grad = parameters[index].grad
            values = plain(grad) if grad is not None and not grad.is_sparse else None
            zeros = lost_bits(values) if values is not None else None
            if zeros is None:
                continue
            seen = plan.faint.setdefault(index, [])
            seen.append((step, zeros))
            if len(seen) > 1:
                faint.append(index)
        if not faint:
            return
        event = observer.latest.get("backward")
        self._sight_once(
            observer, "gradient-underflow", mark, names=tuple(plan.names[index] for index in faint), step=step,
            zeros=max(plan.faint[index][-1][1] for index in faint),
            early=all(plan.faint[index][0][0] == 1 for index in faint),
            scaled=event is not None and event.how == "scaled",
            dtype=str(parameters[faint[0]].dtype).removeprefix("torch."), total=len(found),
        )  # fmt: skip

    # After the step

    def after_update(self, observer: Observer) -> None:
        import torch

        index = observer.watched.index
        plan = self._plans.get(index)
        if plan is None:
            return
        if plan.bad is not None:
            bad, plan.bad = plan.bad, None
            self._tell_gradient(observer, plan, bad)
        before = self._before.pop(index, None)
        if before is None or before.step != observer.watched.steps:
            return
        parameters = observer.parameters()
        if len(parameters) != len(plan.ids):
            return
        with torch.no_grad():
            found = []
            for block in before.blocks:
                now = torch.cat([piece(_local(parameters[index])) for index in block.chosen])
                if now.shape != block.values.shape or now.device != block.values.device:
                    return
                found.append(_compared(now, block))
            self.later.read(found, partial(self._updates, observer, plan, before))

    def _updates(self, observer: Observer, plan: _Plan, before: _Before, values: list[list[float]]) -> None:
        """How far the chosen weights have moved is known."""
        series, whose = self.session.record.series, self._whose(observer)
        ratios, effects = {}, []
        for block, flat in zip(before.blocks, values, strict=True):
            many = len(block.chosen)
            rows = [flat[start : start + many] for start in range(0, len(flat), many)]
            half = _half(block.values)
            for place, index in enumerate(block.chosen):
                moved, weight = math.sqrt(rows[0][place]), math.sqrt(rows[1][place])
                plan.moved = plan.moved or moved != 0
                if weight > 0 and math.isfinite(moved) and math.isfinite(weight):
                    layer = plan.layers[index]
                    series.setdefault(f"update/{whose}/{layer}", []).append((before.step, moved / weight))
                    if block.lengths[place] >= WIDE:
                        ratios[layer] = moved / weight
                if len(rows) > 2:
                    effects.append(_Effect(index, half, *(int(row[place]) for row in rows[2:])))
        self._changed(observer, before.mark, before.step, plan.history.updates(before.step, ratios))
        if effects:
            self._judge_effect(observer, plan, before, effects)

    # Whether it moves anything

    def _judge_effect(self, observer: Observer, plan: _Plan, before: _Before, effects: list[_Effect]) -> None:
        optimizer = observer.optimizer
        if optimizer is None:
            return
        own = type(optimizer).__module__.startswith("torch.optim")
        plainly = bool({kind.__name__ for kind in type(optimizer).__mro__} & (_GRADIENT | _FULL_RATE))
        known = [rate for rate in before.rates if rate is not None]
        detail: dict[str, Any] = {
            "own": own,
            "direct": _direct(optimizer),
            "scheduled": any("initial_lr" in group for group in optimizer.param_groups),
            "lr": max(known, default=None),
            "steps": tuple(step for step, _ in plan.stuck),
        }
        fed, moved = sum(effect.fed for effect in effects), sum(effect.moved for effect in effects)
        should = sum(effect.should for effect in effects)
        if self._lost(observer, plan, before, effects, detail) or plan.moved:
            return
        if len(known) == len(before.rates) and not any(known):
            reason = "rate"
        elif plan.total == 0:
            reason = "gradient"
        elif fed and should * 2 > fed and not moved:
            reason = "step"
        else:
            return
        plan.stuck.append((before.step, reason))
        if (
            len(plan.stuck) >= (PLAINLY if reason == "step" and own and plainly else STUCK)
            and len({why for _, why in plan.stuck}) == 1
        ):
            detail["steps"] = tuple(step for step, _ in plan.stuck)
            names = tuple(plan.names[effect.which] for effect in effects)
            self._sight_once(
                observer, "no-effect", before.mark, key=f"no-effect {len(plan.stuck)}", names=names, step=before.step,
                reason=reason, **detail,
            )  # fmt: skip

    def _lost(
        self, observer: Observer, plan: _Plan, before: _Before, effects: list[_Effect], detail: dict[str, Any]
    ) -> bool:
        """Whether updates of half precision weights vanish when they are rounded."""
        lost, fed, moved = [], 0, 0
        enough = PLAINLY if detail["direct"] else SLOWLY
        for effect in effects:
            if not effect.half or effect.fed < WIDE or before.rates[effect.which] in (0, None):
                continue
            fed, moved = fed + effect.fed, moved + effect.moved
            seen = plan.rounding.setdefault(effect.which, [])
            few = effect.moved < _FEW * effect.fed and effect.should * 2 <= effect.fed
            seen.append((before.step, int(few)))
            if few and len(seen) >= enough and all(was for _, was in seen):
                lost.append(effect)
        if not lost:
            return any(seen and seen[-1] == (before.step, 1) for seen in plan.rounding.values())
        self._sight_once(
            observer, "lost-to-rounding", before.mark, names=tuple(plan.names[effect.which] for effect in lost),
            step=before.step, share=sum(effect.moved for effect in lost) / sum(effect.fed for effect in lost),
            most=moved < _FEW * fed, dtype=lost[0].half, total=len(effects), **detail,
        )  # fmt: skip
        return True

    # Telling

    def _whose(self, observer: Observer) -> str:
        """What the series call an optimizer: its name, with a number if an earlier one has the same."""
        index, name = observer.watched.index, observer.label
        others = [o for o in self.session.observers.values() if o.watched.index < index and o.label == name]
        return f"{name} {len(others) + 1}" if others else name

    def _sight_once(self, observer: Observer, kind: str, mark: Mark | None, *, key: str = "", **detail: Any) -> None:
        told = (key or kind, observer.watched.index)
        if told not in self._told:
            self._told.add(told)
            observer.sight(kind, mark, **detail)

    def ended(self) -> None:
        self._before.clear()
        self.later.finish()


def _rates(optimizer: Optimizer, number: int) -> list[float | None]:
    """The learning rate of each parameter, None where reading it would make an accelerator wait."""
    rates: list[float | None] = []
    for group in optimizer.param_groups:
        rate = group.get("lr")
        known = isinstance(rate, (int, float)) or getattr(rate, "is_cpu", False)
        rates += [float(rate) if known and rate is not None else None] * len(group["params"])
    return rates if len(rates) == number else [None] * number


def _alike(parameters: Sequence[Tensor]) -> list[list[int]]:
    """Which parameters have the same device and dtype; without those that have no values."""
    found: dict[Any, list[int]] = {}
    for index, parameter in enumerate(parameters):
        if plain(parameter) is not None:
            found.setdefault((parameter.device, parameter.dtype), []).append(index)
    return list(found.values())


def _local(parameter: Tensor) -> Tensor:
    """What this rank has of a parameter, without the graph."""
    import torch

    values = parameter.detach()
    return values if type(values) is torch.Tensor else getattr(values, "_local_tensor", values)


def _norms(alike: list[list[int]], parameters: Sequence[Tensor]) -> tuple[list[Tensor], list[int]]:
    """The norms of the gradients as few flat tensors, and which parameter each number of them belongs to."""
    import torch

    found: list[Tensor] = []
    order: list[int] = []
    strided = torch.strided
    for indices in alike:
        part: list[Tensor] = []
        whose: list[int] = []
        dtype = parameters[indices[0]].dtype
        for index in indices:
            grad = parameters[index].grad
            if grad is None:
                continue
            if type(grad) is not torch.Tensor or grad.layout is not strided or grad.dtype is not dtype:
                values = plain(grad)
                if values is None:
                    continue
                grad = values.to(dtype)
            part.append(grad)
            whose.append(index)
        if not part:
            continue
        if dtype in (torch.float16, torch.bfloat16):  # whose own norm may overflow
            part = [grad.float() for grad in part]
        found.append(torch.stack(torch._foreach_norm(part)))
        order += whose
    return found, order


def _piece_of_gradient(parameter: Tensor, like: Tensor) -> Tensor:
    """The elements of the gradient that belong to a piece of its parameter; zeros if they cannot be had."""
    import torch

    grad = parameter.grad
    if grad is None or grad.layout is not torch.strided:
        return torch.zeros_like(like)
    found = piece(_local(grad)).to(like.dtype)
    return found if found.shape == like.shape else torch.zeros_like(like)


def _compared(now: Tensor, block: _Block) -> Tensor:
    """For each chosen weight the square of how far it moved, that of its size, and the counts of an _Effect."""
    import torch

    wide = torch.float64 if now.dtype == torch.float64 else torch.float32
    change = now.to(wide) - block.values.to(wide)
    rows = [change.square(), block.values.to(wide).square()]
    if block.fed is not None and block.should is not None:
        rows += [block.fed.to(wide), ((change != 0) & block.fed).to(wide), block.should.to(wide)]
    sums = torch.zeros((len(rows), len(block.chosen)), dtype=wide, device=now.device)
    return sums.index_add_(1, block.owner, torch.stack(rows))


def _half(values: Tensor) -> str:
    import torch

    return str(values.dtype).removeprefix("torch.") if values.dtype in (torch.float16, torch.bfloat16) else ""


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
