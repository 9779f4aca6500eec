"""Groups that are empty because the names by which they are chosen are others, and states that are saved of the wrong
optimizer.

Sightings: GroupEmpty, SavedUnused.
"""

from __future__ import annotations

from types import CodeType
from typing import TYPE_CHECKING, Any, NamedTuple

from gradcheck_lint.runtime import sites, stores
from gradcheck_lint.runtime.call import Call
from gradcheck_lint.runtime.check import Check
from gradcheck_lint.runtime.sightings.holding import GroupEmpty, SavedUnused
from gradcheck_lint.runtime.sites import resolve

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

    from torch.optim import Optimizer

    from gradcheck_lint.runtime.observer import Observer
    from gradcheck_lint.runtime.session import Session
    from gradcheck_lint.runtime.sites import Mark

_STEPS = 3  # of the one that trains


class _Saved(NamedTuple):
    unused: Observer
    trains: Observer
    mark: Mark
    step: int  # of the one that trains


class Groups(Check):
    """Compares names and ids when an optimizer is built, and when its state is asked for."""

    hears = frozenset({Call.STATE})

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._saved: dict[int, _Saved] = {}  # by observer: states that were asked for, of those that had made no step
        self._asked: set[int] = set()  # observers of optimizers whose state was asked for
        self._trained: dict[int, frozenset[int]] = {}  # by observer: what it held, which may be gone by now

    def before_update(self, observer: Observer, mark: Mark | None) -> None:
        if observer.watched.steps == _STEPS:
            self._trained[observer.watched.index] = frozenset(observer.ids())

    def optimizer_built(
        self, optimizer: Optimizer, given: object, mark: Mark | None, observer: Observer | None
    ) -> None:
        groups = optimizer.param_groups
        if observer is None or len(groups) < 2 or not any(not group["params"] for group in groups):
            return
        names = [name for p in observer.parameters() if (name := self.session.models.name(p))]
        codes = [code for code in dict.fromkeys(_running(sites.frames(2))) if "startswith" in code.co_names]
        for code in codes:
            for word in code.co_consts:
                if type(word) is not str or not word or any(name.startswith(word) for name in names):
                    continue
                inner = next((name for name in names if f".{word.rstrip('.')}." in name), None)
                if inner is not None and next(stores.calls_with(code, "startswith", word), None) is not None:
                    empty = next(index for index, group in enumerate(groups) if not group["params"])
                    asked = [at for one in codes for at in stores.calls_with(one, "startswith", word)]
                    at = asked[empty] if len(asked) == len(groups) else asked[0]
                    self.session.take(
                        GroupEmpty(
                            observer.scene(observer.built), names=(inner,), word=word, group=empty, at=resolve(at)
                        )
                    )
                    return

    def call_ended(
        self, kind: Call, args: tuple[Any, ...], kwargs: dict[str, Any], result: object, error: BaseException | None
    ) -> None:
        observer = self.session.observers.get(id(args[0]))
        if error is not None or observer is None:
            return
        index, optimizer = observer.watched.index, observer.optimizer
        self._asked.add(index)
        if index in self._saved or optimizer is None or observer.steps or optimizer.state or observer.opaque:
            return
        ids = observer.ids()
        for other in self.session.observers.values():
            if other is not observer and ids and ids <= self._trained.get(other.watched.index, frozenset()):
                mark = sites.here(2)
                if mark is not None and "save" in mark.code.co_names:
                    self._saved[index] = _Saved(observer, other, mark, other.watched.steps)
                return

    def ended(self) -> None:
        for saved in self._saved.values():
            unused, other = saved.unused, saved.trains
            if not unused.steps and other.watched.index not in self._asked:
                scene = other.scene(saved.mark, saved.step)
                self.session.take(SavedUnused(scene, other=unused.label, made=resolve(unused.built)))


def _running(frames: Sequence[FrameType]) -> Iterator[CodeType]:
    """The codes that run in these frames, with the comprehensions in them."""
    todo = [frame.f_code for frame in frames]
    while todo:
        code = todo.pop(0)
        yield code
        todo += [one for one in code.co_consts if isinstance(one, CodeType) and one.co_name.startswith("<")]
