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
from gradcheck_lint.runtime.history import History
from gradcheck_lint.runtime.later import Later
from gradcheck_lint.runtime.layers import layers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor
    from torch.optim import Optimizer

    from gradcheck_lint.runtime.observer import Observer
    from gradcheck_lint.runtime.record import Event
    from gradcheck_lint.runtime.session import Session
    from gradcheck_lint.runtime.sites import Mark

SAMPLES = frozenset({1, 2, 5, 10, 20})
PIECE = 4096  # elements of a weight that are kept from before a step to after it
STUCK = 3  # samples at which nothing had moved
HALF_NORMAL = 2.0**-14  # the smallest float16 with all its bits
ENOUGH = 32  # elements, for a part of them to mean something
_SOME = 0.1  # of a gradient is zero
_FEW = 0.05  # of the elements that got a gradient


def sampled(observer: Observer) -> bool:
    """Whether values are read at this step, which is checked in full."""
    options = observer.session.options
    if options.level == "light":
        return False
    step = observer.watched.steps
    return step in SAMPLES or (step > max(SAMPLES) and step % options.every == 0) or options.level == "deep"


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
    """The first elements of a tensor, as a view."""
    if tensor.numel() <= PIECE:
        return tensor
    row = tensor.numel() // tensor.shape[0]
    part = tensor.narrow(0, 0, max(1, PIECE // row))
    if part.numel() > PIECE:
        last = part.dim() - 1
        wide = part.numel() // part.shape[last]
        part = part.narrow(last, 0, max(1, min(part.shape[last], PIECE // max(wide, 1))))
    return part


def norms(tensors: Sequence[Tensor]) -> tuple[list[Tensor], list[int]]:
    """Norms as few flat tensors, and which tensor each number of them belongs to."""
    import torch

    alike: dict[tuple[torch.device, torch.dtype], list[int]] = {}
    for index, tensor in enumerate(tensors):
        alike.setdefault((tensor.device, tensor.dtype), []).append(index)
    found, order = [], []
    for (_, dtype), indices in alike.items():
        part = [tensors[index] for index in indices]
        if dtype in (torch.float16, torch.bfloat16):  # whose own norm may overflow
            part = [tensor.float() for tensor in part]
        found.append(torch.stack(torch._foreach_norm(part)))
        order += indices
    return found, order


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


class _Before(NamedTuple):
    """What the chosen weights were before a step."""

    step: int
    mark: Mark | None
    pieces: list[Tensor]
    fed: list[Tensor]  # where they have a gradient; only at the early samples
    should: list[Tensor]  # where the update is far larger than a rounding error
    rates: list[float | None]


@dataclass
class _Plan:
    """How the parameters of one optimizer are looked at, and what was seen."""

    ids: list[int]
    names: list[str]
    layers: list[str]
    chosen: list[int] = field(default_factory=list)  # of each layer the largest parameter that gets gradients
    history: History = field(default_factory=History)
    moved: bool = False
    stuck: list[tuple[int, str]] = field(default_factory=list)
    rounding: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    total: float = math.nan
    sample: int = 0
    bad: _Bad | None = None
    faint: dict[int, list[tuple[int, float]]] = field(default_factory=dict)  # by parameter: step and part of zeros


class Values(Check):
    """Reads values, seldom."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.later = Later()
        self._plans: dict[int, _Plan] = {}
        self._before: dict[int, _Before] = {}
        self._losses: list[_Loss] = []
        self._told: set[tuple[str, int]] = set()
        self._skipped: dict[int, int] = {}

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
            if event.mark is not None:
                self._remember_loss(self.session.steps + 1, value)
        elif event.mark is not None and loss.numel() == 1 and self.session.options.level != "light":
            step = self.session.steps + 1
            if step in SAMPLES or step % self.session.options.every == 0:
                self.later.read([loss], partial(self._late_loss, step, event))

    def _remember_loss(self, step: int, value: float) -> None:
        series = self.session.record.series.setdefault("loss", [])
        if not series or series[-1][0] != step:
            series.append((step, value))

    def _late_loss(self, step: int, event: Event, values: list[list[float]]) -> None:
        value = values[0][0]
        self._remember_loss(step, value)
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
            before = self._last_loss(step)
            self._sight_once(
                observer, "weight-not-finite", mark or sites.here(2), names=spoilt, step=step - 1, loss=before,
                total=len(observer.parameters()),
            )  # fmt: skip
        elif not spoilt:
            bad = any(p.grad is not None and not finite(p.grad.detach()) for p in observer.parameters())
            self._sight_once(
                observer, "loss-not-finite", loss.mark, value=str(loss.value), scaled=loss.scaled, spoils=bad
            )

    def _last_loss(self, step: int) -> float | None:
        series = self.session.record.series.get("loss", [])
        return next((value for at, value in reversed(series) if at < step and math.isfinite(value)), None)

    def _spoilt(self, observer: Observer) -> tuple[str, ...]:
        """The weights that are not finite; reads all of them, on suspicion."""
        found = []
        for parameter in observer.parameters():
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
            fed: list[int] = []
            gradients: list[Tensor] = []
            for index, parameter in enumerate(parameters):
                grad = parameter.grad
                if grad is not None and (values := plain(grad)) is not None:
                    fed.append(index)
                    gradients.append(values)
            if not fed:
                return
            found, order = norms(gradients)
            backward = observer.latest.get("backward")
            self.later.read(
                found,
                partial(
                    self._gradients, observer, plan, step, mark, backward.mark if backward else None,
                    [fed[index] for index in order],
                ),
            )  # fmt: skip
            self._choose(plan, parameters, fed)
            self._keep(observer, plan, step, mark, optimizer, parameters)

    def _plan(self, observer: Observer, parameters: list[Tensor]) -> _Plan:
        ids = [id(parameter) for parameter in parameters]
        index = observer.watched.index
        plan = self._plans.get(index)
        if plan is None or plan.ids != ids:
            names = [observer.name(parameter) for parameter in parameters]
            self._plans[index] = fresh = _Plan(ids, names, layers(names))
            if plan is not None:
                fresh.moved = plan.moved
            plan = fresh
        return plan

    @staticmethod
    def _choose(plan: _Plan, parameters: list[Tensor], fed: list[int]) -> None:
        if plan.chosen and set(plan.chosen) <= set(fed):
            return
        best: dict[str, int] = {}
        for index in fed:
            layer = plan.layers[index]
            if layer not in best or parameters[index].numel() > parameters[best[layer]].numel():
                best[layer] = index
        plan.chosen = list(best.values())

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

        early = step in SAMPLES
        rates = _rates(optimizer, len(parameters)) if early else []
        pieces, fed, should = [], [], []
        for index in plan.chosen:
            values, grad = plain(parameters[index]), parameters[index].grad
            if values is None or grad is None:
                plan.chosen = []
                return
            pieces.append(before := piece(values).clone())
            if not early:
                continue
            whole = plain(grad) if grad.layout is torch.strided else None
            if whole is None or whole.shape != values.shape:
                fed.append(torch.zeros_like(before, dtype=torch.bool))
                should.append(fed[-1])
                continue
            change = _least_change(optimizer, piece(whole), rates[index])
            fed.append(piece(whole) != 0)
            should.append((change > before.abs() * torch.finfo(before.dtype).eps) & fed[-1])
        self._before[observer.watched.index] = _Before(step, mark, pieces, fed, should, rates)

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
        series = self.session.record.series
        for layer, norm in found.items():
            series.setdefault(f"gradient/{observer.label}/{layer}", []).append((step, norm))
        for change in plan.history.gradients(found):
            self._changed(observer, change.kind, mark, step, change)

    def _changed(self, observer: Observer, kind: str, mark: Mark | None, step: int, change: Any) -> None:
        key = f"{kind} {'extreme' if change.extreme else ''}"
        self._sight_once(
            observer, kind, mark, key=key, names=(change.layer,), step=step,
            now=change.now, usual=change.usual, extreme=change.extreme, always=change.always,
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
        self._sight_once(
            observer,
            "gradient-not-finite",
            bad.mark,
            names=tuple(plan.names[index] for index in order),
            step=bad.step,
            made=bad.backward,
            total=bad.fed,
            loss=self._last_loss(self.session.steps + 1),
            spoilt=self._spoilt(observer),
        )

    # Gradients that are too small for their dtype

    def _underflow(
        self, observer: Observer, plan: _Plan, step: int, mark: Mark | None, found: dict[int, float]
    ) -> None:
        parameters = observer.parameters()
        if step != observer.watched.steps or len(parameters) != len(plan.ids):
            return
        faint = []
        for index, norm in found.items():
            size = parameters[index].numel()
            if norm <= 0 or size < ENOUGH or norm > HALF_NORMAL * math.sqrt(size):
                continue
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
            after = [values for index in plan.chosen if (values := plain(parameters[index])) is not None]
            if len(after) != len(before.pieces):
                return
            now = [piece(values) for values in after]
            if any(a.shape != b.shape or a.device != b.device for a, b in zip(now, before.pieces, strict=True)):
                return
            moved = [a - b for a, b in zip(now, before.pieces, strict=True)]
            found, order = norms([*moved, *before.pieces])
            counts = []
            for change, fed, should in zip(moved, before.fed, before.should, strict=False):
                counts.append(torch.stack([fed.sum(), ((change != 0) & fed).sum(), should.sum()]))
            self.later.read([*found, *counts], partial(self._updates, observer, plan, before, len(found), order))

    def _updates(
        self, observer: Observer, plan: _Plan, before: _Before, parts: int, order: list[int], values: list[list[float]]
    ) -> None:
        """How far the chosen weights have moved is known."""
        flat = [0.0] * len(order)
        for index, value in zip(order, (value for part in values[:parts] for value in part), strict=True):
            flat[index] = value
        many = len(flat) // 2
        series = self.session.record.series
        ratios = {}
        for index, moved, weight in zip(plan.chosen, flat[:many], flat[many:], strict=False):
            if weight > 0 and math.isfinite(moved) and math.isfinite(weight):
                ratios[plan.layers[index]] = ratio = moved / weight
                series.setdefault(f"update/{observer.label}/{plan.layers[index]}", []).append((before.step, ratio))
        for change in plan.history.updates(before.step, ratios):
            self._changed(observer, change.kind, before.mark, before.step, change)
        if any(moved != 0 for moved in flat[:many]):
            plan.moved = True
        counts = [(int(part[0]), int(part[1]), int(part[2])) for part in values[parts:]]
        if counts:
            self._judge_effect(observer, plan, before, counts)

    # Whether it moves anything

    def _judge_effect(
        self, observer: Observer, plan: _Plan, before: _Before, counts: list[tuple[int, int, int]]
    ) -> None:
        optimizer = observer.optimizer
        if optimizer is None:
            return
        own = type(optimizer).__module__.startswith("torch.optim")
        known = [rate for rate in before.rates if rate is not None]
        detail: dict[str, Any] = {
            "own": own,
            "scheduled": any("initial_lr" in group for group in optimizer.param_groups),
            "lr": max(known, default=None),
            "steps": tuple(step for step, _ in plan.stuck),
        }
        fed, moved, should = (sum(count[place] for count in counts) for place in range(3))
        if self._lost(observer, plan, before, counts, detail) or plan.moved:
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
        if len(plan.stuck) >= STUCK and len({why for _, why in plan.stuck}) == 1:
            detail["steps"] = tuple(step for step, _ in plan.stuck)
            names = tuple(plan.names[index] for index in plan.chosen)
            self._sight_once(
                observer, "no-effect", before.mark, key=f"no-effect {len(plan.stuck)}", names=names, step=before.step,
                reason=reason, **detail,
            )  # fmt: skip

    def _lost(
        self,
        observer: Observer,
        plan: _Plan,
        before: _Before,
        counts: list[tuple[int, int, int]],
        detail: dict[str, Any],
    ) -> bool:
        """Whether updates of half precision weights vanish when they are rounded."""
        import torch

        lost, all_fed, all_moved = [], 0, 0
        dtypes = set()
        for index, weight, (fed, moved, should) in zip(plan.chosen, before.pieces, counts, strict=False):
            if weight.dtype not in (torch.bfloat16, torch.float16) or fed < 8 or before.rates[index] in (0, None):
                continue
            all_fed, all_moved = all_fed + fed, all_moved + moved
            seen = plan.rounding.setdefault(index, [])
            few = moved < _FEW * fed and should * 2 <= fed
            seen.append((before.step, int(few)))
            if few and len(seen) >= STUCK and all(was for _, was in seen):
                lost.append(index)
                dtypes.add(str(weight.dtype).removeprefix("torch."))
        if not lost:
            return any(seen and seen[-1] == (before.step, 1) for seen in plan.rounding.values())
        self._sight_once(
            observer, "lost-to-rounding", before.mark, names=tuple(plan.names[index] for index in lost),
            step=before.step, share=all_moved / all_fed, most=all_moved < _FEW * all_fed, dtype=min(dtypes),
            total=len(plan.chosen), **detail,
        )  # fmt: skip
        return True

    # Telling

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


_FULL_RATE = frozenset({"Adam", "AdamW", "Adamax", "NAdam", "Adagrad", "RMSprop"})


def _least_change(optimizer: Optimizer, grad: Tensor, rate: float | None) -> Tensor:
    """How far the step moves each weight, told too small rather than too large."""
    import torch

    grad = grad.abs()
    if rate is None:
        return torch.zeros_like(grad)
    names = {kind.__name__ for kind in type(optimizer).__mro__}
    if names & {"SGD", "ASGD"}:
        return grad * (rate * 0.1)
    if names & _FULL_RATE:
        return torch.full_like(grad, rate * 0.1) * (grad > 1e-6)
    return grad.clamp(max=1) * (rate * 1e-4)
