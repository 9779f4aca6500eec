"""Training and evaluation mode of the layers that an optimizer trains.

Modes change by calls of `train()` and `eval()`, so layers are looked at only when there was such a call since the last
look. Sightings: EvalAtStep (layers that were in training mode at an earlier step are in evaluation mode),
FrozenStatistics (norm layers whose weights are frozen and whose statistics are not).
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, NamedTuple

from gradcheck_lint.laws.mode import Lapse, Layer, drifts, layer
from gradcheck_lint.runtime import sites
from gradcheck_lint.runtime.by_hand import twins, writes_networks
from gradcheck_lint.runtime.check import Check
from gradcheck_lint.runtime.sightings.mode import EvalAtStep, FrozenStatistics
from gradcheck_lint.runtime.sites import resolve

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch.nn import Module

    from gradcheck_lint.runtime.observer import Observer
    from gradcheck_lint.runtime.session import Session
    from gradcheck_lint.runtime.sites import Mark


class _Call(NamedTuple):
    """A call of `eval()`, the first since `train()` was called on anything."""

    module: weakref.ref[Module]
    mark: Mark | None
    norms: bool  # whether it has norm layers
    trains: int  # how many calls of `train()` came before it


class _Woken(NamedTuple):
    """A norm layer that was in evaluation mode with a frozen part, and is not any more."""

    layer: weakref.ref[Module]
    off: Mark | None
    on: Mark | None


class _Seen:
    """What is known of the layers of one optimizer."""

    def __init__(self) -> None:
        self.looked = -1  # the number of calls of train() and eval() at the last look
        self.trained: dict[int, weakref.ref[Module]] = {}
        self.lapse = Lapse()
        self.told = False
        self.statistics = False


class Modes(Check):
    """Follows `train()` and `eval()`."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._calls = self._trains = 0
        self._evals: dict[int, _Call] = {}
        self._normed: weakref.WeakKeyDictionary[Module, bool] = weakref.WeakKeyDictionary()
        self._registered = 0  # how much had been put into modules when that was looked at
        self._woken: dict[int, _Woken] = {}  # by layer
        self._seen: dict[int, _Seen] = {}

    def mode_switched(self, module: Module, mode: bool) -> None:
        self._calls += 1
        evals, key = self._evals, id(module)
        if mode:
            self._trains += 1
            evals.pop(key, None)
            for call in evals.values():
                if call.norms:
                    self._wakes(module, sites.here(4))
                    break
        else:
            known = evals.get(key)
            if known is None or known.trains != self._trains or known.module() is not module:
                evals[key] = _Call(weakref.ref(module), sites.here(4), self._has_norms(module), self._trains)

    def _has_norms(self, module: Module) -> bool:
        """Whether there are norm layers in it. Looked for once, until something is put into a module."""
        from torch.nn.modules.batchnorm import _NormBase

        if self._registered != self.session.registrations.number:
            self._registered = self.session.registrations.number
            self._normed.clear()
        found = self._normed.get(module)
        if found is None:
            found = self._normed[module] = any(isinstance(part, _NormBase) for part in module.modules())
        return found

    def _wakes(self, module: Module, mark: Mark | None) -> None:
        """Note the norm layers of frozen parts of it that the program had put into evaluation mode by themselves."""
        from torch.nn.modules.batchnorm import _NormBase

        inner = {id(part) for part in module.modules()}
        for key, call in self._evals.items():
            part = call.module() if call.norms else None
            if part is None or key not in inner or any(p.requires_grad for p in part.parameters()):
                continue
            for one in part.modules():
                if isinstance(one, _NormBase) and not one.training and any(True for _ in part.parameters()):
                    self._woken[id(one)] = _Woken(weakref.ref(one), call.mark, mark)

    def _woke(self, module: Module) -> _Woken | None:
        found = self._woken.get(id(module))
        return found if found is not None and found.layer() is module else None

    def model_found(self) -> None:
        for seen in self._seen.values():
            seen.looked = -1

    def before_update(self, observer: Observer, mark: Mark | None) -> None:
        seen = self._seen.setdefault(observer.watched.index, _Seen())
        if seen.told or (seen.looked == self._calls and not seen.lapse.since):
            return
        seen.looked = self._calls
        step = observer.watched.steps
        ids = observer.ids()
        training: list[Module] = []
        undone: list[tuple[str, Module]] = []
        for name, module in self._layers(ids):
            ref = seen.trained.get(id(module))
            mode = layer(training=module.training, before=ref is not None and ref() is module)
            if mode is Layer.TRAINING:
                training.append(module)
            elif mode is Layer.UNDONE:
                undone.append((name, module))
        seen.trained.update({id(module): weakref.ref(module) for module in training})
        if not seen.statistics:
            self._look_at_statistics(observer, seen, mark, ids)
        found = [(name, call) for name, module in undone if (call := self._call(module, ids)) is not None]
        if seen.lapse.begins(step, undone=bool(found)):
            observer.attention.attend(2)
        elif seen.lapse.lasts(step):
            seen.told = True
            call = found[0][1]
            root = call.module()
            self.session.take(
                EvalAtStep(
                    observer.scene(call.mark), names=tuple(name for name, _ in found), since=seen.lapse.since,
                    whole=not training, module=self._name(root) if root is not None else "", step_at=resolve(mark),
                )
            )  # fmt: skip

    def glance(self, observer: Observer, mark: Mark | None) -> None:
        self.before_update(observer, mark)

    def _layers(self, ids: set[int]) -> list[tuple[str, Module]]:
        """The layers that compute something else in training mode, in the models that hold some of these tensors."""
        from torch.nn.modules.batchnorm import _NormBase
        from torch.nn.modules.dropout import _DropoutNd

        found: list[tuple[str, Module]] = []
        trained = [model for _, model in self.session.models if any(id(p) in ids for p in model.parameters())]
        mine = {id(module) for model in trained for module in model.modules()}
        for name, module in self.session.models.modules():
            if id(module) not in mine:
                continue
            if isinstance(module, _NormBase):
                if module.track_running_stats and any(id(p) in ids and p.requires_grad for p in module.parameters()):
                    found.append((name, module))
            elif isinstance(module, _DropoutNd):
                if module.p > 0:
                    found.append((name, module))
        return found

    def _call(self, module: Module, ids: set[int]) -> _Call | None:
        """The call of `eval()` on something around this layer that is trained as well; not one on the layer alone."""
        from torch.nn.modules.batchnorm import _NormBase
        from torch.nn.modules.dropout import _DropoutNd

        for call in reversed(list(self._evals.values())):
            root = call.module()
            if root is None or isinstance(root, (_NormBase, _DropoutNd)):
                continue
            if any(part is module for part in root.modules()) and any(
                id(p) in ids and p.requires_grad for p in root.parameters()
            ):
                return call
        return None

    def _thawed(self, observer: Observer, module: Module) -> bool:
        """Whether a frozen module learns at other steps: a critic is frozen for as long as its generator is trained."""
        mine = {id(p) for p in module.parameters()}
        return any(
            mine & other.received.keys() or (other is not observer and mine & other.ids())
            for other in self.session.observers.values()
        )

    def _name(self, module: Module) -> str:
        return next((name for name, known in self.session.models.modules() if known is module), "")

    def _look_at_statistics(self, observer: Observer, seen: _Seen, mark: Mark | None, ids: set[int]) -> None:
        """Norm layers that were frozen by their weights alone."""
        from torch.nn.modules.batchnorm import _NormBase

        models = [model for _, model in self.session.models if any(id(p) in ids for p in model.parameters())]
        mine = {id(module) for model in models for module in model.modules()}
        moving = []
        for name, module in self.session.models.modules():
            if (
                id(module) in mine
                and isinstance(module, _NormBase)
                and drifts(
                    training=module.training,
                    statistics=module.running_mean is not None,
                    trained=(p.requires_grad for p in module.parameters()),
                )
                and not self._thawed(observer, module)
            ):
                moving.append((name, module))
        if moving:  # a copy of what is trained may be a target or an average
            followers = _followers(models, ids)
            moving = [(name, module) for name, module in moving if id(module) not in followers]
        if moving and writes_networks(sites.frames(2)):
            trained = [m for _, m in self.session.models.modules() if any(id(p) in ids for p in m._parameters.values())]
            alike = twins([module for _, module in moving], trained)
            moving = [(name, module) for name, module in moving if id(module) not in alike]
        if moving and observer.watched.steps > 1:
            seen.statistics = True
            woken = [(name, found) for name, module in moving if (found := self._woke(module)) is not None]
            if woken:
                off, on = woken[0][1].off, woken[0][1].on
                names = tuple(name for name, _ in woken)
                self.session.take(FrozenStatistics(observer.scene(mark), names=names, off=resolve(off), on=resolve(on)))
            else:
                self.session.take(FrozenStatistics(observer.scene(mark), names=tuple(name for name, _ in moving)))
        elif moving:
            seen.looked = -1  # look again at the next step


def _followers(models: Sequence[Module], ids: set[int]) -> set[int]:
    """The ids of all modules in networks that are frozen as a whole and of the form of one that is trained."""
    frozen: list[Module] = []
    trained: list[Module] = []
    todo = list(models)
    while todo:
        module = todo.pop()
        parameters = list(module.parameters())
        if not parameters:
            continue
        if any(p.requires_grad for p in parameters):
            if any(id(p) in ids and p.requires_grad for p in parameters):
                trained.append(module)
            todo += module.children()
        elif any(True for _ in module.children()):
            frozen.append(module)
    alike = twins(frozen, trained)
    return {id(part) for module in frozen if id(module) in alike for part in module.modules()}
