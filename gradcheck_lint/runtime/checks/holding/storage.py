"""Memory that is exchanged under a parameter, and state that is loaded: does it still fit?

`.data = ...` exchanges the memory of a tensor and leaves no trace in its version, so the address is what is compared.
Sightings: MemoryShared (a parameter has got the memory of another), DataMisfit and StateLeftBehind (it has
become of another shape, dtype or device than what its optimizer remembers: by an assignment, or because the model was
moved), StateMisfit (a state of another shape was loaded), NothingLoaded, OwnStateLoaded (a model is given
the state that is its own memory, after steps that should be undone).
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

from gradcheck_lint.laws.holding import Kind, Misfit, misfit
from gradcheck_lint.runtime import sites
from gradcheck_lint.runtime.call import Call
from gradcheck_lint.runtime.check import Check
from gradcheck_lint.runtime.names import names_of
from gradcheck_lint.runtime.objects import instances
from gradcheck_lint.runtime.references import Ref
from gradcheck_lint.runtime.sightings.holding import (
    DataMisfit,
    MemoryShared,
    NothingLoaded,
    OwnStateLoaded,
    StateLeftBehind,
    StateMisfit,
)
from gradcheck_lint.runtime.sites import resolve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor
    from torch.nn import Module

    from gradcheck_lint.runtime.observer import Observer
    from gradcheck_lint.runtime.session import Session
    from gradcheck_lint.runtime.sighting import Sighting
    from gradcheck_lint.runtime.sites import Mark

_CLOSELY = 3  # steps before which all parameters are compared
_SLICE = 16  # parameters that are compared before each later one
_SEARCHES = 3  # through all objects there are, in one session
_STATES = 32  # state dicts that are remembered

SHAPED = frozenset(
    {"exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer", "square_avg", "grad_avg", "acc_delta", "sum", "prev",
     "step_size", "ax", "mu", "exp_inf"}
)  # fmt: skip
"""What the optimizers of torch remember in the shape of the parameter."""


class Kept(NamedTuple):
    """What a parameter was when it was looked at last."""

    place: int
    kind: Kind


class Storage(Check):
    """Compares addresses, shapes, dtypes and devices, never values."""

    hears = frozenset({Call.MODULE_APPLY, Call.MODULE_LOAD_STATE, Call.MODULE_STATE, Call.LOAD_STATE})

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._kept: dict[int, dict[int, Kept]] = {}
        self._depth = 0
        self._move: tuple[weakref.ref[Module], Mark | None] | None = None
        self._all = False  # whether all parameters are compared before the next step
        self._next: dict[int, tuple[int, int]] = {}  # by observer: the group and the place in it to go on at
        self._searches = _SEARCHES
        self._told: set[type[Sighting]] = set()
        self._taken: list[tuple[Ref, int]] = []  # states, and how many steps there had been

    def attached(self, observer: Observer) -> None:
        self._kept[observer.watched.index] = {id(p): _kept(p) for p in observer.parameters()}

    def before_update(self, observer: Observer, mark: Mark | None) -> None:
        index = observer.watched.index
        if observer.watched.steps > _CLOSELY and not self._all:
            parameters = self._some(observer)
        else:
            parameters = observer.parameters()
        self._all = False
        kept = self._kept.setdefault(index, {})
        changed = []
        for parameter in parameters:
            before = kept.get(id(parameter))
            if before is None or parameter.data_ptr() != before.place:
                now = kept[id(parameter)] = _kept(parameter)
                if before is not None:
                    changed.append((parameter, before, now))
        if changed:
            self._judge(observer, mark, changed)

    def glance(self, observer: Observer, mark: Mark | None) -> None:
        self.before_update(observer, mark)

    def _some(self, observer: Observer) -> list[Tensor]:
        """The next few parameters, in turn."""
        index, groups = observer.watched.index, observer.groups()
        number, start = self._next.get(index, (0, 0))
        number %= max(len(groups), 1)
        held: list[Tensor] = groups[number]["params"] if groups else []
        following = start + _SLICE
        self._next[index] = (number, following) if following < len(held) else (number + 1, 0)
        return held[start:following]

    def _judge(self, observer: Observer, mark: Mark | None, changed: list[tuple[Tensor, Kept, Kept]]) -> None:
        optimizer = observer.optimizer
        if optimizer is None:
            return
        other = [(p, now) for p, before, now in changed if before.kind != now.kind]
        misfits = [(p, now, t) for p, now in other if (t := _misfit(p, optimizer.state.get(p, {}))) is not None]
        if misfits:
            moved = self._moved({id(p) for p, _, _ in misfits})
            what = _differing(misfits[0][1].kind, _kind(misfits[0][2]))
            names = tuple(observer.name(p) for p, _, _ in misfits)
            if moved is None:
                if self._is_new(DataMisfit):
                    self.session.take(DataMisfit(observer.scene(mark), names=names, now=what[0], state=what[1]))
            elif self._is_new(StateLeftBehind):
                made = resolve(moved[1])
                self.session.take(
                    StateLeftBehind(observer.scene(mark), names=names, now=what[0], state=what[1], made=made)
                )
        elif not other:
            shared = self._sharing([p for p, _, _ in changed])
            if shared:
                names = tuple(observer.name(p) for p, _ in shared)
                near = names_of(self.session.models, [q for _, q in shared], sites.frames(2))
                owners = tuple(dict.fromkeys(name or "another parameter" for name in near))
                if self._is_new(MemoryShared):
                    others = tuple(name for name in owners if name not in names) or names
                    self.session.take(MemoryShared(observer.scene(mark), names=names, owners=others))

    def _moved(self, ids: set[int]) -> tuple[Module, Mark | None] | None:
        """The latest move, if it was of these."""
        if self._move is None:
            return None
        module = self._move[0]()
        return (module, self._move[1]) if module is not None and ids & {id(p) for p in module.parameters()} else None

    def _sharing(self, parameters: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Those that lie where another parameter lies, with it."""
        from torch.nn import Parameter

        if not self._searches:
            return []
        self._searches -= 1
        places = {p.data_ptr(): p for p in parameters if p.numel()}
        found: list[tuple[Tensor, Tensor]] = []
        for thing in instances(Parameter):
            if type(thing) is not Parameter or thing.is_meta:
                continue
            there = places.get(thing.data_ptr())
            if there is not None and thing is not there and thing.shape == there.shape:
                found.append((there, thing))
        return found

    # Calls

    def call_begins(self, kind: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if kind is Call.MODULE_APPLY:
            self._depth += 1
            if self._depth == 1:
                self._move = (weakref.ref(args[0]), sites.here(2))
                self._all = True
        elif kind is Call.MODULE_LOAD_STATE:
            self._loads(args, kwargs)

    def call_ended(
        self, kind: Call, args: tuple[Any, ...], kwargs: dict[str, Any], result: object, error: BaseException | None
    ) -> None:
        if kind is Call.MODULE_APPLY:
            self._depth -= 1
        elif kind is Call.MODULE_STATE and error is None:
            self._takes(result)
        elif error is not None:
            return
        elif kind is Call.LOAD_STATE:
            observer = self.session.observers.get(id(args[0]))
            if observer is not None:
                self._loaded(observer)
        elif kind is Call.MODULE_LOAD_STATE:
            state = args[1] if len(args) > 1 else kwargs.get("state_dict")
            missing, unexpected = (list(getattr(result, f"{what}_keys", ())) for what in ("missing", "unexpected"))
            own = len(args[0].state_dict()) if missing and unexpected else 0
            if own and len(missing) >= own and len(unexpected) >= len(state or ()):
                if self._is_new(NothingLoaded):
                    scene = self.session.scene(sites.here(2))
                    self.session.take(NothingLoaded(scene, wanted=missing[0], given=unexpected[0]))

    def _takes(self, state: object) -> None:
        first = next(_tensors(state), None)
        if first is not None and not first.requires_grad and not (self._taken and self._taken[-1][0]() is first):
            self._taken = [item for item in self._taken if item[0]() is not None][-_STATES:]
            self._taken.append((Ref(first), self._steps()))

    def _loads(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Whether all of the state is the model's own memory, taken before steps that it should undo."""
        state = args[1] if len(args) > 1 else kwargs.get("state_dict")
        tensors = list(_tensors(state))
        if not tensors:
            return
        steps = next((steps for ref, steps in self._taken if any(ref() is t for t in tensors)), None)
        since = self._steps() - steps if steps is not None else 0
        if since <= 0:
            return
        own = {t.data_ptr() for t in (*args[0].parameters(), *args[0].buffers()) if t.numel()}
        if own and all(t.data_ptr() in own for t in tensors if t.numel()) and self._is_new(OwnStateLoaded):
            scene = self.session.scene(sites.here(2))
            self.session.take(OwnStateLoaded(scene, steps=since))

    def _steps(self) -> int:
        """How many steps there have been, with those that nobody looked at."""
        return sum(observer.steps for observer in self.session.roster.everybody())

    def _loaded(self, observer: Observer) -> None:
        optimizer = observer.optimizer
        if optimizer is None:
            return
        held = [(p, _misfit(p, optimizer.state.get(p, {}), shape=True)) for p in observer.parameters()]
        wrong = [(p, state) for p, state in held if state is not None]
        if wrong and self._is_new(StateMisfit):
            names = tuple(observer.name(p) for p, _ in wrong)
            shapes = tuple(wrong[0][0].shape), tuple(wrong[0][1].shape)
            self.session.take(StateMisfit(observer.scene(sites.here(2)), names=names, shapes=shapes))

    def _is_new(self, kind: type[Sighting]) -> bool:
        """Whether nothing of this kind was told before; from now on something was."""
        new = kind not in self._told
        self._told.add(kind)
        return new


def _kept(tensor: Tensor) -> Kept:
    from torch.nn.parameter import is_lazy

    if is_lazy(tensor):
        return Kept(0, Kind((), None, None))
    return Kept(tensor.data_ptr(), _kind(tensor))


def _kind(tensor: Tensor) -> Kind:
    return Kind(tuple(tensor.shape), tensor.device, tensor.dtype)


def _misfit(parameter: Tensor, state: dict[str, Any], *, shape: bool = False) -> Tensor | None:
    """What an optimizer remembers of a parameter and does not fit it; `shape`: only by its shape."""
    for key, value in state.items():
        if key not in SHAPED or not getattr(value, "ndim", 0):
            continue
        found = misfit(_kind(parameter), _kind(value))
        if found is Misfit.SHAPE or (found is not None and not shape):
            return value  # type: ignore[no-any-return]
    return None


def _differing(now: Kind, state: Kind) -> tuple[str, str]:
    found = misfit(now, state)
    if found is Misfit.SHAPE:
        return f"of shape {now.shape}", f"of shape {state.shape}"
    if found is Misfit.DEVICE:
        return f"on {now.device}", f"on {state.device}"
    return str(now.dtype).removeprefix("torch."), str(state.dtype).removeprefix("torch.")


def _tensors(state: object) -> Iterator[Tensor]:
    from torch import Tensor

    values = getattr(state, "values", None)
    for value in values() if callable(values) else ():
        if isinstance(value, Tensor):
            yield value
