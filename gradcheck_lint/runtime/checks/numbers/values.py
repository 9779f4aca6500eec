"""What the numbers say that backward makes: is the loss finite, are the gradients, and do they fit into their dtype?

Values are read at a few early steps and then at samples, many tensors with one call. On the CPU the loss is read at
each step that is checked. On an accelerator nothing waits: see `later`. What a step does with the gradients is looked
at in `effects`.

Sightings: LossIsNaN, GradientNotFinite, WeightNotFinite, GradientUnderflow, and those kinds of `history` that are
about gradients.
"""

from __future__ import annotations

import math
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from gradcheck_lint.runtime import reading, sites
from gradcheck_lint.runtime.check import Check
from gradcheck_lint.runtime.checks.numbers.plans import Plan, Plans
from gradcheck_lint.runtime.sampling import EARLY
from gradcheck_lint.runtime.sightings.numbers import GradientNotFinite, GradientUnderflow, LossIsNaN, WeightNotFinite
from gradcheck_lint.runtime.sites import resolve

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import CodeType

    from torch import Tensor

    from gradcheck_lint.runtime.observer import Observer
    from gradcheck_lint.runtime.record import Event
    from gradcheck_lint.runtime.session import Session
    from gradcheck_lint.runtime.sites import Mark

_LOSSES = 8  # lines that call backward whose losses are kept apart
LOOKED_AT = 8  # parameters whose gradient is looked at more closely at one step
ENOUGH = 32  # elements, for a part of them to mean something


class _Loss(NamedTuple):
    """A loss that is not finite."""

    order: int  # of the backward
    value: float
    mark: Mark | None
    scaled: bool


class _Sample(NamedTuple):
    """Where the gradients of one sample came from and went to."""

    plan: Plan
    step: int
    mark: Mark | None
    backward: Mark | None
    order: list[int]  # the parameters whose gradients are read, one after another


class _Bad(NamedTuple):
    """Gradients that are not finite, until it is known what the step makes of them."""

    sample: _Sample
    indices: list[int]


class Values(Check):
    """Reads losses and gradients, seldom. It has the plans that `effects` uses too."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.plans = Plans(session)
        self._bad: dict[int, _Bad] = {}
        # by parameter: step and part of zeros
        self._faint: weakref.WeakKeyDictionary[Plan, dict[int, list[tuple[int, float]]]] = weakref.WeakKeyDictionary()
        self.latest: float | None = None  # the loss that was read last
        self._losses: list[_Loss] = []
        self._glimpse: tuple[_Loss, tuple[str, ...]] | None = None  # a loss seen at a glance, and what was spoilt then
        self._loss_names: dict[tuple[CodeType, int], str] = {}

    # Losses

    def backward_begins(self, roots: Sequence[Tensor], event: Event, options: dict[str, Any]) -> None:
        if len(roots) != 1 or event.order < 0:
            return
        loss = roots[0]
        if loss.is_cpu:
            value = _value(loss)
            if value is None:
                return
            if not math.isfinite(value):
                self._losses.append(_Loss(event.order, value, event.mark or sites.here(2), event.how != "plain"))
            elif self._losses:
                self._losses = []
            self._remember_loss(self._coming(), value, event.mark)
        elif loss.numel() == 1 and not loss.is_meta and self.session.options.level != "light":
            observers = self.session.observers.values()
            if not reading.capturing() and any(o.awake and o.sampling.reads(o.watched.steps + 1) for o in observers):
                self.plans.later.read([loss], partial(self._late_loss, self._coming(), event))

    def glance_at_loss(self, root: Tensor) -> None:
        if not root.is_cpu or (value := _value(root)) is None:
            return
        finite = math.isfinite(value)
        # finding the line takes as long as all the rest, and is needed only to tell several losses apart
        mark = sites.here(4) if len(self._loss_names) > 1 or not finite else None
        self._remember_loss(self._coming(), value, mark)
        self._glimpse = None
        if not finite:
            self.session.roster.suspect()
            observers = list(self.session.observers.values())
            if len(observers) == 1 and not self.session.scaling.at_work:
                self._glimpse = _Loss(0, value, mark, False), self._spoilt(observers[0])

    def glance(self, observer: Observer, mark: Mark | None) -> None:
        if self._glimpse is not None:
            (loss, spoilt), self._glimpse = self._glimpse, None
            self._judge_loss(observer, loss, spoilt, mark)

    def _coming(self) -> int:
        """The step that comes next, of the optimizer that has made most of them."""
        most = 0
        for observer in self.session.observers.values():
            most = max(most, observer.watched.steps)
        return most + 1

    def _remember_loss(self, step: int, value: float, mark: Mark | None) -> None:
        self.latest = value
        name = self._loss_name(mark)
        series = self.session.record.series.get(name)
        if not series or series[-1][0] != step:
            self.session.series.add(name, step, value)

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
                self._tell_loss(observer, event.mark, step, value, spoils=True, scaled=False)

    def stepped(self, observer: Observer, mark: Mark | None) -> None:
        if not self._losses:
            return
        made = {event.order for event in observer.window}
        used = [loss for loss in self._losses if loss.order in made]
        if not used or observer.scaler_stepping:
            return
        loss = used[0]
        self._losses = [loss for loss in self._losses if loss.order not in made]
        self._judge_loss(observer, loss, None, mark)

    def _judge_loss(self, observer: Observer, loss: _Loss, spoilt: tuple[str, ...] | None, mark: Mark | None) -> None:
        """A loss that is not finite was used. spoilt: the weights that were not before; None to look for them."""
        if self.plans.told(observer, WeightNotFinite, LossIsNaN):
            return  # the loss only shows what was told
        spoilt = self._spoilt(observer) if spoilt is None else spoilt
        if spoilt and self.plans.told(observer, GradientNotFinite):
            return
        step = observer.watched.steps
        if spoilt and step > 1:
            since, before = self._last_loss(step)
            plan = self.plans.of(observer)
            finite = plan is not None and step - 1 in plan.finite
            if self.plans.is_new(observer, WeightNotFinite):
                self.session.take(
                    WeightNotFinite(
                        observer.scene(mark or sites.here(2), step - 1), names=spoilt, loss=before, since=since,
                        total=len(observer.parameters()), finite=finite, lost=_lost(observer) if finite else None,
                    )
                )  # fmt: skip
        elif not spoilt:
            bad = any(p.grad is not None and not reading.finite(p.grad.detach()) for p in observer.parameters())
            self._tell_loss(observer, loss.mark, step, loss.value, spoils=bad, scaled=loss.scaled)

    def _tell_loss(
        self, observer: Observer, mark: Mark | None, step: int, value: float, *, spoils: bool, scaled: bool
    ) -> None:
        if self.plans.is_new(observer, LossIsNaN):
            self.session.take(LossIsNaN(observer.scene(mark, step), value=str(value), spoils=spoils, scaled=scaled))

    def _last_loss(self, step: int) -> tuple[int, float | None]:
        """The last loss before a step that was seen to be finite, and when."""
        series = self.session.record.series.get("loss", [])
        return next(((at, value) for at, value in reversed(series) if at < step and math.isfinite(value)), (0, None))

    def _spoilt(self, observer: Observer) -> tuple[str, ...]:
        """The weights that are not finite, as backward reaches them; reads all of them, on suspicion."""
        found = []
        first = {key: place for place, key in enumerate(observer.received)}
        for parameter in sorted(observer.parameters(), key=lambda p: first.get(id(p), len(first))):
            values = reading.plain(parameter)
            if values is not None and not reading.finite(values):
                found.append(observer.name(parameter))
        return tuple(found)

    # Norms of the gradients

    def before_update(self, observer: Observer, mark: Mark | None) -> None:
        later = self.plans.later
        if later:
            later.poll()
        sampled = reading.sampled(observer)
        if not sampled and (self.session.options.level == "light" or reading.capturing()):
            return

        import torch

        step = observer.watched.steps
        parameters = observer.parameters()
        plan = self.plans.renewed(observer, parameters)
        if plan.sample == step:
            return  # a closure that is called again
        optimizer = observer.optimizer
        if sampled:
            plan.sample, plan.fed = step, []
        if optimizer is None or getattr(optimizer, "grad_scale", None) is not None:
            return  # the optimizer divides by the scale itself, and may skip the update
        with torch.no_grad():
            found, fed = reading.norms(plan.alike, parameters)
            if found:
                backward = observer.latest.get("backward")
                sample = _Sample(plan, step, mark, backward.mark if backward else None, fed)
                if sampled:
                    plan.fed = fed
                    later.read(found, partial(self._gradients, observer, sample))
                else:  # are they finite? When the loss shows that they were not, they are gone
                    later.read(found, partial(self._are_finite, observer, sample))

    def _gradients(self, observer: Observer, sample: _Sample, values: list[list[float]]) -> None:
        """The norms of the gradients are known."""
        plan, step, order = sample.plan, sample.step, sample.order
        flat = [value for part in values for value in part]
        if not self._are_finite(observer, sample, values):
            plan.total = math.nan
            return
        if step in EARLY:
            self._underflow(observer, sample, flat)
        squares: dict[str, float] = {}
        layers = plan.layers
        for index, norm in zip(order, flat, strict=True):
            layer = layers[index]
            squares[layer] = squares.get(layer, 0.0) + norm * norm
        found = {layer: math.sqrt(square) for layer, square in squares.items()}
        plan.total = math.sqrt(sum(squares.values()))
        add, whose = self.session.series.add, self.plans.whose(observer)
        for layer, norm in found.items():
            add(f"gradient/{whose}/{layer}", step, norm)
        self.plans.changed(observer, sample.mark, step, plan.history.gradients(found))

    # Gradients that are not finite

    def _are_finite(self, observer: Observer, sample: _Sample, values: list[list[float]]) -> bool:
        """The same at a step at which no more is asked of them."""
        flat = [value for part in values for value in part]
        if not math.isfinite(sum(flat)):
            bad = [index for index, norm in zip(sample.order, flat, strict=True) if not math.isfinite(norm)]
            if bad:
                self._not_finite(observer, _Bad(sample, sorted(bad)))
                return False
        sample.plan.finite = (*sample.plan.finite[-1:], sample.step)
        return True

    def _not_finite(self, observer: Observer, bad: _Bad) -> None:
        if self.plans.told(observer, GradientNotFinite):
            return
        if bad.sample.step != observer.watched.steps:  # known late: what has become of the weights tells if it was so
            self._tell_gradient(observer, bad)
            return
        parameters = observer.parameters()
        if len(parameters) != len(bad.sample.plan.ids):
            return  # the optimizer is gone: a norm may have overflowed where no gradient did
        sure = []
        for index in bad.indices:
            grad = parameters[index].grad
            values = reading.plain(grad) if grad is not None else None
            if values is not None and not reading.finite(values):
                sure.append(index)
        if sure:
            self._bad[observer.watched.index] = bad._replace(indices=sure)

    def after_update(self, observer: Observer) -> None:
        bad = self._bad.pop(observer.watched.index, None) if self._bad else None
        if bad is not None:
            self._tell_gradient(observer, bad)

    def _tell_gradient(self, observer: Observer, bad: _Bad) -> None:
        if self.plans.told(observer, LossIsNaN, WeightNotFinite):
            return  # the first that was not finite is known
        sample = bad.sample
        # the parameter that backward reached first is the nearest to the cause
        first = {key: place for place, key in enumerate(observer.received)}
        order = sorted(bad.indices, key=lambda index: first.get(sample.plan.ids[index], len(first)))
        since, loss = self._last_loss(sample.step + 1)
        if self.plans.is_new(observer, GradientNotFinite):
            self.session.take(
                GradientNotFinite(
                    observer.scene(sample.mark, sample.step),
                    names=tuple(sample.plan.names[index] for index in order),
                    made=resolve(sample.backward),
                    total=len(sample.order),
                    loss=loss,
                    since=since,
                    spoilt=self._spoilt(observer),
                )
            )

    # Gradients that are too small for their dtype

    def _underflow(self, observer: Observer, sample: _Sample, norms: list[float]) -> None:
        plan, step = sample.plan, sample.step
        parameters = observer.parameters()
        if step != observer.watched.steps or len(parameters) != len(plan.ids):
            return
        suspects = []
        for index, norm in zip(sample.order, norms, strict=True):
            if 0 < norm < 1:
                size = parameters[index].numel()
                if size >= ENOUGH and norm < reading.HALF_NORMAL * math.sqrt(size):
                    suspects.append(index)
        if not suspects:
            return
        known = self._faint.setdefault(plan, {})
        faint = []
        for index in suspects[:: -(-len(suspects) // LOOKED_AT)]:
            grad = parameters[index].grad
            values = reading.plain(grad) if grad is not None and not grad.is_sparse else None
            zeros = reading.lost_bits(values) if values is not None else None
            if zeros is None:
                continue
            seen = known.setdefault(index, [])
            seen.append((step, zeros))
            if len(seen) > 1:
                faint.append(index)
        if not faint:
            return
        event = observer.latest.get("backward")
        if self.plans.is_new(observer, GradientUnderflow):
            self.session.take(
                GradientUnderflow(
                    observer.scene(sample.mark, step),
                    names=tuple(plan.names[index] for index in faint),
                    zeros=max(known[index][-1][1] for index in faint),
                    early=all(known[index][0][0] == 1 for index in faint),
                    scaled=event is not None and event.how == "scaled",
                    dtype=str(parameters[faint[0]].dtype).removeprefix("torch."),
                )
            )

    def ended(self) -> None:
        self.plans.later.finish()


def _lost(observer: Observer) -> tuple[str, float, str] | None:
    """An option of the optimizer that keeps it from dividing by zero, and is zero in the dtype of its weights."""
    import torch

    for group in observer.groups():
        eps = group.get("eps")
        if isinstance(eps, float) and eps > 0:
            for dtype in {parameter.dtype for parameter in group["params"] if parameter.is_floating_point()}:
                if float(torch.tensor(eps, dtype=dtype)) == 0:
                    return "eps", eps, str(dtype).removeprefix("torch.")
    return None


def _value(loss: Tensor) -> float | None:
    """The number that a loss on the CPU is; None if it is no number."""
    return loss.item() if loss.numel() == 1 and not loss.is_complex() else None
