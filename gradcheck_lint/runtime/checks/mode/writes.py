"""Weights that move although they should not: outside of the step, or although they are frozen.

Sightings: WrittenOutside (the values of parameters were changed between two steps), FrozenMoves (a step moves
parameters that were trained and then frozen), ExpectedFrozenMoved (so do parameters that the user has named as
frozen).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from gradcheck_lint.laws.mode import Flag, flag
from gradcheck_lint.runtime import sites
from gradcheck_lint.runtime.by_hand import projects
from gradcheck_lint.runtime.call import Call
from gradcheck_lint.runtime.check import Check
from gradcheck_lint.runtime.reading import piece, plain, sampled
from gradcheck_lint.runtime.references import Ref
from gradcheck_lint.runtime.sampling import EARLY
from gradcheck_lint.runtime.sightings.mode import ExpectedFrozenMoved, FrozenMoves, WrittenOutside

if TYPE_CHECKING:
    from torch import Tensor

    from gradcheck_lint.runtime.observer import Observer
    from gradcheck_lint.runtime.session import Session
    from gradcheck_lint.runtime.sighting import Sighting
    from gradcheck_lint.runtime.sites import Mark


_AFTER = 6  # steps of all optimizers after `requires_grad_` of a module that are looked at


class _Kept(NamedTuple):
    """A parameter that should not move, and a piece of what it was."""

    ref: Ref
    name: str
    dtype: Any
    values: Tensor


class _Version(NamedTuple):
    memory: int
    number: int


class _Frozen(NamedTuple):
    """Parameters with `requires_grad` False and a gradient, before an update, and what may move them."""

    kept: list[_Kept]
    mark: Mark | None
    decay: bool
    momentum: bool
    old: bool


class Writes(Check):
    """Compares version counters and pieces of values, at the early samples and now and then."""

    hears = frozenset({Call.MODULE_LOAD_STATE, Call.MODULE_APPLY, Call.MODULE_REQUIRES_GRAD})

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._versions: dict[int, dict[int, _Version]] = {}
        self._loaded = False
        self._switched = 0  # steps that are looked at because something was frozen or thawed
        self._frozen: dict[int, _Frozen] = {}
        self._expected: dict[str, _Kept] = {}
        self._told: set[tuple[type[Sighting], int]] = set()

    def call_begins(self, kind: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if kind is Call.MODULE_REQUIRES_GRAD:
            self._switched = _AFTER
        else:
            self._loaded = True

    # Between two steps

    def after_update(self, observer: Observer) -> None:
        index = observer.watched.index
        if observer.watched.steps + 1 in EARLY and (WrittenOutside, index) not in self._told:
            self._loaded = False
            self._versions[index] = {id(p): v for p in observer.parameters() if (v := _version(p)) is not None}
        self._compare_frozen(observer)

    def _compare_versions(self, observer: Observer, mark: Mark | None) -> None:
        index = observer.watched.index
        versions = self._versions.pop(index, None)
        if not versions or self._loaded or observer.watched.steps not in EARLY:
            return
        from torch.nn import Parameter

        written = [p for p in observer.parameters() if _written(versions.get(id(p)), _version(p))]
        if not written:
            return
        others: set[int] = set()
        for other in self.session.observers.values():
            if other is not observer:
                others |= other.ids()
        others |= self._renormed()
        names = tuple(observer.name(p) for p in written if id(p) not in others and isinstance(p, Parameter))
        if names and self._is_new(WrittenOutside, observer) and not projects(sites.frames(2)):
            self.session.take(WrittenOutside(observer.scene(mark), names=names))

    def _renormed(self) -> set[int]:
        """The ids of weights that their layers keep within a norm whenever they are used."""
        return {
            id(module.weight)
            for _, module in self.session.models.modules()
            if getattr(module, "max_norm", None) is not None and hasattr(module, "weight")
        }

    # Frozen parameters

    def before_update(self, observer: Observer, mark: Mark | None) -> None:
        if observer.watched.index in self._versions:
            self._compare_versions(observer, mark)
        if not sampled(observer) and not self._switched:
            return
        self._switched = max(self._switched - 1, 0)
        received = observer.received
        frozen = [p for p in observer.parameters() if id(p) in received and _flag(p) is Flag.LEFTOVER]
        if frozen and (FrozenMoves, observer.watched.index) not in self._told:
            self._keep_frozen(observer, frozen, mark)
        if self.session.options.expect_frozen:
            self._compare_expected(observer, mark)

    def _keep_frozen(self, observer: Observer, frozen: list[Tensor], mark: Mark | None) -> None:
        optimizer = observer.optimizer
        if optimizer is None:
            return
        ids = {id(p) for p in frozen}
        group = next(g for g in optimizer.param_groups if any(id(p) in ids for p in g["params"]))
        kept = [kept for p in frozen if (kept := self._keep(p, observer.name(p))) is not None]
        gradients = [values for p in frozen if p.grad is not None and (values := plain(p.grad)) is not None]
        self._frozen[observer.watched.index] = _Frozen(
            kept,
            mark,
            decay=bool(group.get("weight_decay", 0)),
            momentum=bool(group.get("momentum", 0) or "betas" in group),
            old=any(bool(grad.any()) for grad in gradients),
        )

    @staticmethod
    def _keep(parameter: Tensor, name: str) -> _Kept | None:
        values = plain(parameter)
        if values is None:
            return None
        return _Kept(Ref(parameter), name, parameter.dtype, piece(values).clone())

    def _compare_frozen(self, observer: Observer) -> None:
        waiting = self._frozen.pop(observer.watched.index, None)
        if waiting is None:
            return
        names = tuple(one.name for one in waiting.kept if _moved(one))
        if names and self._is_new(FrozenMoves, observer):
            _, mark, decay, momentum, old = waiting
            self.session.take(FrozenMoves(observer.scene(mark), names=names, decay=decay, momentum=momentum, old=old))

    def _compare_expected(self, observer: Observer, mark: Mark | None) -> None:
        """What the user said is frozen, held against what it was when it was first seen."""
        words = self.session.options.expect_frozen
        known = dict(self.session.models.parameters())
        for p in observer.parameters():
            known.setdefault(observer.name(p), p)
        moved = []
        for name, parameter in known.items():
            if not name.startswith(words):
                continue
            kept = self._expected.get(name)
            if kept is None or kept.ref() is not parameter or kept.dtype != parameter.dtype:
                fresh = self._keep(parameter, name)
                if fresh is not None:
                    self._expected[name] = fresh
            elif _moved(kept):
                moved.append(name)
        if moved and self._is_new(ExpectedFrozenMoved, observer):
            ids = observer.ids()
            held = sum(id(known[name]) in ids for name in moved)
            self.session.take(ExpectedFrozenMoved(observer.scene(mark), names=tuple(moved), held=held))

    def ended(self) -> None:
        if self.session.options.expect_frozen:
            for observer in self.session.observers.values():
                step = observer.latest.get("step")
                self._compare_expected(observer, step.mark if step is not None else None)
        self._frozen.clear()
        self._expected.clear()

    def _is_new(self, kind: type[Sighting], observer: Observer) -> bool:
        """Whether nothing of this kind was told of this optimizer before; from now on something was."""
        key = kind, observer.watched.index
        new = key not in self._told
        self._told.add(key)
        return new


def _flag(parameter: Tensor) -> Flag:
    return flag(requires_grad=parameter.requires_grad, fed=parameter.grad is not None)


def _version(parameter: Tensor) -> _Version | None:
    from torch.nn.parameter import is_lazy

    if parameter.is_inference() or is_lazy(parameter):
        return None
    return _Version(parameter.data_ptr(), parameter._version)


def _written(before: _Version | None, now: _Version | None) -> bool:
    """Whether the same memory has been written to; one that was exchanged has versions of its own."""
    return before is not None and now is not None and before.memory == now.memory and before.number != now.number


def _moved(kept: _Kept) -> bool:
    """Reads values: only for parameters that were frozen and yet have a gradient, and for those that the user named."""
    parameter = kept.ref()
    values = plain(parameter) if parameter is not None else None
    if values is None:
        return False
    now = piece(values)
    return now.shape == kept.values.shape and now.device == kept.values.device and bool((now != kept.values).any())
