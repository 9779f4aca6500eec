"""Other tensors in the place of those that an optimizer holds: in a model, or in a variable of the user's."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from gradcheck_lint.runtime import sites, stores
from gradcheck_lint.runtime.checks.holding.identity import Identity, held_by_any
from gradcheck_lint.runtime.checks.holding.stray import names_of_all
from gradcheck_lint.runtime.codes import methods
from gradcheck_lint.runtime.names import modules_of, variable
from gradcheck_lint.runtime.reading import equal, local, piece
from gradcheck_lint.runtime.sightings.holding import ModelReplaced, VariableReplaced
from gradcheck_lint.runtime.sites import resolve
from gradcheck_lint.runtime.structs import struct

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from torch import Tensor

    from gradcheck_lint.runtime.checks.holding.leaves import Leaves
    from gradcheck_lint.runtime.checks.holding.stray import Stray
    from gradcheck_lint.runtime.observer import Observer
    from gradcheck_lint.runtime.record import Event
    from gradcheck_lint.runtime.session import Session
    from gradcheck_lint.runtime.sites import Mark


_COMPARED = 4  # tensors of two networks
_FEW = 200  # operations between a variable and what it was computed from


@struct
class _Seen:
    """What the tensors of an optimizer seem to be replaced by."""

    variables: bool  # by what variables stand for now; else by the parameters of a model
    ids: tuple[int, ...]
    names: tuple[str, ...]
    made: Mark | None
    mark: Mark | None
    met: set[int]  # the backwards at which they were met
    passing: bool = False  # they are copies that live for one step, and replace nothing


class Replaced:
    """Sightings: ModelReplaced and VariableReplaced."""

    def __init__(self, session: Session, leaves: Leaves) -> None:
        self._session = session
        self._leaves = leaves
        self._variables: dict[int, dict[str, int]] = {}  # by observer: the user's variables and what they held
        self._copies: dict[int, dict[str, tuple[int, str]]] = {}
        self._seen: dict[int, _Seen] = {}  # by observer

    def attached(self, observer: Observer) -> None:
        if not all(self._session.models.name(p) for p in observer.parameters()):
            self._variables[observer.watched.index] = {
                name: id(p) for p in observer.parameters()[:100] if (name := variable(p, sites.frames(3)))
            }

    def step_begins(self, observer: Observer, mark: Mark | None) -> None:
        index = observer.watched.index
        if self._copies.get(index) or (observer.watched.steps == 1 and self._variables.get(index)):
            self._judge_copies(observer, mark)

    def look(self, observer: Observer, mark: Mark | None) -> None:
        """Leaves were met that nobody holds; asked at each step that is checked."""
        if not any(p.grad is not None for p in observer.parameters()) or observer.watched.index in self._variables:
            self._judge(observer, mark)

    def ended(self) -> None:
        for observer in self._session.observers.values():
            seen = self._seen.pop(observer.watched.index, None)
            if seen is not None and not seen.passing:
                self._tell(observer, seen)

    # In a model, or a variable

    def _judge(self, observer: Observer, mark: Mark | None) -> None:
        """What the optimizer holds gets no gradients, and others of the same shapes or of the same name do."""
        told, found = self._session.check(Identity).told, self._leaves.found
        parameters = [p for p in observer.parameters() if p.requires_grad]
        strays = {key: s for key, s in found.items() if key not in told and s.look() is not None}
        index = observer.watched.index
        idle = [p for p in parameters if p.grad is None]
        if not strays or not idle:
            self._seen.pop(index, None)
            return
        seen = self._look(observer, mark, strays, parameters, idle)
        if seen is None:
            return
        known = self._seen.pop(index, None)
        if known is None or known.variables != seen.variables:
            observer.broken = True
            self._seen[index] = seen  # to be told if it is so at the next step too
        elif not seen.variables and not seen.met & known.met:
            observer.broken = False
            seen.passing = True
            self._seen[index] = seen
        elif not set(seen.ids) & held_by_any():
            self._tell(observer, seen)
        else:
            observer.broken = False

    def _look(
        self,
        observer: Observer,
        mark: Mark | None,
        strays: dict[int, Stray],
        parameters: list[Tensor],
        idle: list[Tensor],
    ) -> _Seen | None:
        frames = sites.frames(2)
        names = {key: (variable(s.ref(), frames) if not s.parameter else "") for key, s in strays.items()}
        kept = self._variables.get(observer.watched.index, {})
        turned = {key: name for key, name in names.items() if name and kept.get(name) in {id(p) for p in idle}}
        if turned:
            made = _reassigned(next(iter(turned.values())), observer.built, frames)
            met = {strays[key].first for key in turned}
            return _Seen(True, tuple(turned), tuple(turned.values()), made, mark, met)
        wanted = Counter(tuple(p.shape) for p in parameters)
        there = Counter(s.shape for s in strays.values() if s.parameter and s.latest > s.first - 1)
        matched = sum((wanted & there).values())
        if len(idle) < len(parameters) or not parameters or matched * 2 < len(parameters):
            return None
        if self._shared(observer, idle):
            return None
        if _stands_beside(frames, {id(p) for p in idle}, set(strays)) and not _copied(idle, strays):
            return None
        ids = tuple(key for key, s in strays.items() if s.parameter)
        called = tuple(names_of_all(self._session, list(strays.values()), frames))
        made = next((s.mark for s in strays.values() if s.mark is not None), None)
        return _Seen(False, ids, called, made, mark, {strays[key].first for key in ids})

    def _shared(self, observer: Observer, parameters: list[Tensor]) -> bool:
        """Whether other optimizers hold these as well: the model still has them, and this one got the wrong ones."""
        others = (o for o in self._session.observers.values() if o is not observer and o.optimizer is not None)
        held = {key for other in others for key in other.ids() if other.optimizer is not observer.optimizer}
        return all(id(parameter) in held for parameter in parameters)

    def _tell(self, observer: Observer, seen: _Seen) -> None:
        self._session.check(Identity).told |= set(seen.ids)
        for key in seen.ids:
            self._leaves.pending.pop(key, None)
        scene, made = observer.scene(seen.mark), resolve(seen.made)
        if seen.variables:
            self._session.take(VariableReplaced(scene, names=seen.names, made=made))
        else:
            number, held = len(seen.ids), len(observer.watched.parameters)
            self._session.take(ModelReplaced(scene, names=seen.names, made=made, number=number, held=held))

    # By what is computed from them

    def _judge_copies(self, observer: Observer, mark: Mark | None) -> None:
        """A variable that was handed over stands for a copy of it that is computed once: `w = w.double()`."""
        index = observer.watched.index
        known = self._copies.pop(index, {})
        frames = sites.frames(2)
        held = {id(p): p for p in observer.parameters()}
        now: dict[str, tuple[int, str]] = {}
        for name, key in self._variables.get(index, {}).items():
            value = _value(name, frames)
            node = getattr(value, "grad_fn", None)
            if node is None or key not in held:
                continue
            if any(getattr(following, "variable", None) is held[key] for following, _ in node.next_functions):
                now[name] = (id(value), type(node).__name__)
        same = [name for name, seen in now.items() if known.get(name) == seen]
        if same:
            self._tell_copies(observer, mark, same)
        elif observer.watched.steps == 1 and now:
            self._copies[index] = now

    def _tell_copies(self, observer: Observer, mark: Mark | None, names: Sequence[str]) -> None:
        made = resolve(_reassigned(names[0], observer.built, sites.frames(2)))
        self._session.take(VariableReplaced(observer.scene(mark), names=tuple(names), made=made, copy=True))

    def backward_failed(self, event: Event, error: BaseException) -> None:
        """`w = w.clamp(min=0)` after each step: the next loss goes back through what has been gone through before."""
        if not isinstance(error, RuntimeError) or "a second time" not in str(error):
            return
        frames = sites.frames(2)
        for observer in self._session.observers.values():
            names = self._variables.get(observer.watched.index, {})
            held = observer.ids()
            same = [n for n, key in names.items() if key in held and _computed_from(_value(n, frames), key)]
            if same:
                self._tell_copies(observer, event.mark, same)


def _stands_beside(frames: list[FrameType], held: set[int], trained: set[int]) -> bool:
    """Whether the user has both networks at hand, each by its own name: a student and its teacher, say.

    Neither took the place of the other then, whatever the loss was to lead to.
    """
    for frame in frames:
        names: tuple[set[str], set[str]] = (set(), set())
        for name, module in modules_of(frame):
            ids = {id(parameter) for parameter in module.parameters()}
            for ours, theirs, known in ((held, trained, names[0]), (trained, held, names[1])):
                if ids & ours and not ids & theirs:
                    known.add(name)
        if names[0] - names[1] and names[1]:
            return True
    return False


def _copied(held: list[Tensor], strays: dict[int, Stray]) -> bool:
    """Whether tensors are trained that are still what an optimizer holds, value by value: one was copied."""
    mine = [p for p in held if p.dim() > 1] or held  # biases and scales are alike in the beginning
    others = [leaf for stray in strays.values() if (leaf := stray.ref()) is not None]
    return all(
        any(p.shape == o.shape and equal(piece(local(p)), piece(local(o))) for o in others) for p in mine[:_COMPARED]
    )


def _computed_from(value: object, key: int) -> bool:
    """Whether a tensor is computed, in few operations, from the leaf of this id."""
    todo, left = [getattr(value, "grad_fn", None)], _FEW
    while todo and left:
        left -= 1
        node = todo.pop()
        if id(getattr(node, "variable", None)) == key:
            return True
        todo += [following for following, _ in getattr(node, "next_functions", ())]
    return False


def _reassigned(name: str, built: Mark | None, frames: list[FrameType]) -> Mark | None:
    """The one line that gives a variable another value than the optimizer took."""
    for frame in frames:
        own = sites.variables(frame)
        if name.startswith("self."):
            codes = list(methods(type(own["self"]))) if "self" in own else []
        else:
            codes = [frame.f_code] if name in own else []
        marks = [mark for code in codes for mark in stores.assignments(code, name)]
        if built is not None:
            before = [mark for mark in marks if mark.code is built.code and mark.last < built.last]
            marks = [mark for mark in marks if mark not in before[-1:]]
        if codes:
            return marks[0] if len(marks) == 1 else None
    return None


def _value(name: str, frames: list[FrameType]) -> object:
    """What a variable of the user's stands for; only plain names, and attributes of `self`."""
    for frame in frames:
        own = sites.variables(frame)
        if name.startswith("self."):
            if "self" in own:
                return getattr(own["self"], "__dict__", {}).get(name[5:])
        elif name in own:
            return own[name]
        elif name in frame.f_globals:
            return frame.f_globals[name]
    return None
