"""Weights that were loaded and are others before the first step that follows.

Of each parameter that a state was loaded into some values are kept until then. A layer that is begun anew is a fresh
head; where nothing is left of any weight the model was initialised after it was loaded. Sighting: RestoredRedrawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from gradcheck_lint.runtime import reading, sites, stores
from gradcheck_lint.runtime.call import Call
from gradcheck_lint.runtime.check import Check
from gradcheck_lint.runtime.checks.holding.restored import Restored
from gradcheck_lint.runtime.references import Ref
from gradcheck_lint.runtime.sightings.holding import RestoredRedrawn
from gradcheck_lint.runtime.sites import resolve

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from gradcheck_lint.runtime.observer import Observer
    from gradcheck_lint.runtime.session import Session
    from gradcheck_lint.runtime.sites import Mark

_VALUES = 64  # of each tensor
_MOST = 64  # tensors
_LOADS = 20  # that are looked at
_ALIKE = 0.5  # the cosine of what was loaded and what is there, from which on the one may come from the other
_DRAWS = frozenset({"reset_parameters", "init_weights", "_init_weights", "initialize_weights", "init_parameters",
                    "weights_init"})  # fmt: skip


class _Loaded(NamedTuple):
    tensor: Ref
    version: int
    before: Tensor


class _Load(NamedTuple):
    mark: Mark | None
    weights: list[_Loaded]


class Redrawn(Check):
    """Reads values when a state is loaded, and again at the next step of who holds them."""

    hears = frozenset({Call.MODULE_LOAD_STATE})

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._load: _Load | None = None  # the latest
        self._loads = 0

    def call_ended(
        self, kind: Call, args: tuple[Any, ...], kwargs: dict[str, Any], result: object, error: BaseException | None
    ) -> None:
        if error is not None or self._loads > _LOADS:
            return  # a target network is loaded again and again
        self._loads += 1
        state = args[1] if len(args) > 1 else kwargs.get("state_dict")
        names: Mapping[str, object] = state if hasattr(state, "keys") else {}  # type: ignore[assignment]
        weights = [
            _Loaded(Ref(p), p._version, reading.beginning(p, _VALUES))
            for name, p in args[0].named_parameters()
            if name in names and p.ndim > 1 and reading.plain(p) is not None
        ][:_MOST]
        if weights:
            self._load = _Load(sites.here(2), weights)

    def before_update(self, observer: Observer, mark: Mark | None) -> None:
        load = self._load
        if load is None:
            return
        ids = observer.ids()
        if not any(id(one.tensor()) in ids for one in load.weights):
            return
        self._load = None
        there = [(one, p) for one in load.weights if (p := one.tensor()) is not None]
        mine = [(one, p) for one, p in there if id(p) in ids and p.requires_grad]
        if len(mine) < len(load.weights) or not all(_may_differ(one, p) for one, p in mine):
            return
        if sum(one.before.numel() for one, _ in mine) < _VALUES or not all(_is_another(one, p) for one, p in mine):
            return
        names = tuple(observer.name(p) for _, p in mine)
        sure = self.session.check(Restored).resumes(observer)
        draws = _draws(load.mark)
        scene = observer.scene(draws or load.mark)
        self.session.take(
            RestoredRedrawn(scene, names=names, loaded=resolve(load.mark) if draws is not None else None, sure=sure)
        )


def _may_differ(one: _Loaded, now: Tensor) -> bool:
    """Whether it is worth to read the values: on an accelerator only where the version tells that somebody wrote."""
    return now._version != one.version or now.is_cpu


def _is_another(one: _Loaded, now: Tensor) -> bool:
    """Whether nothing of what was loaded is in it, not even turned or shrunk."""
    import torch

    values = reading.beginning(now, _VALUES)
    if values.shape != one.before.shape or values.device != one.before.device:
        return False
    before, after = one.before.float(), values.float()
    sizes = float(before.norm()), float(after.norm())
    if bool((before == after).any()) or 0 in sizes:
        return False
    return abs(float(torch.dot(before, after))) < _ALIKE * sizes[0] * sizes[1]


def _draws(load: Mark | None) -> Mark | None:
    """The one place after the load, in the same function, that initialises something."""
    if load is None:
        return None
    after = [mark for name in _DRAWS for mark in stores.calls(load.code, name) if mark.last > load.last]
    return after[0] if len(after) == 1 else None
