"""What an optimizer is built of: the tensors and options that it is given, and why torch refuses them.

Sightings: SetGiven, NonLeafGiven, GivenTwice, IteratorSpent, NeverTrained (none of what was given is ever made to
require grad), OddOption (an option that torch lets through and that does nothing or harm), ZeroRate, AttributeAssigned
(`optimizer.lr = ...`), and what torch refused, if that ended the program: RefusedEmpty, RefusedSpent, RefusedTwice,
RefusedNonLeaf, RefusedSet, RefusedLoad.
"""

from __future__ import annotations

import inspect
from types import GeneratorType
from typing import TYPE_CHECKING, Any, NamedTuple

from gradcheck_lint.laws.mode import Flag, flag, never_trained
from gradcheck_lint.runtime import sites, stores
from gradcheck_lint.runtime.call import Call
from gradcheck_lint.runtime.check import Check
from gradcheck_lint.runtime.checks.holding.attributes import hidden
from gradcheck_lint.runtime.codes import attribute_set
from gradcheck_lint.runtime.names import modules_of, names_of, variable
from gradcheck_lint.runtime.sightings.building import (
    AttributeAssigned,
    GivenTwice,
    IteratorSpent,
    NeverTrained,
    NonLeafGiven,
    NothingHeld,
    OddOption,
    RefusedEmpty,
    RefusedLoad,
    RefusedNonLeaf,
    RefusedSet,
    RefusedSpent,
    RefusedTwice,
    SetGiven,
    ZeroRate,
)
from gradcheck_lint.runtime.sites import resolve

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import Tensor
    from torch.optim import Optimizer

    from gradcheck_lint.runtime.observer import Observer
    from gradcheck_lint.runtime.record import Event
    from gradcheck_lint.runtime.session import Session
    from gradcheck_lint.runtime.sighting import Scene, Sighting
    from gradcheck_lint.runtime.sites import Mark

_LONG = 1000  # what has been so for so many steps was so in the last few as well
_BOOKKEEPING = frozenset({"params", "param_names", "initial_lr", "name", "swa_lr", "max_lr", "min_lr", "max_momentum",
                          "base_momentum", "fused", "foreach", "capturable", "differentiable", "maximize"})  # fmt: skip


class Refusal(NamedTuple):
    """An error of torch's that may be about to end the program."""

    words: str
    sighting: Sighting


class Start(NamedTuple):
    """What an optimizer was like when it was built."""

    attributes: frozenset[str]
    defaults: dict[str, Any]


class Still:
    """What has been so since an optimizer was built, and is told if it stays so."""

    def __init__(self) -> None:
        self.mark: Mark | None = None
        self.step = 0
        self.zero = True  # the rate of every group is 0
        self.frozen: dict[int, str] | None = None  # tensors that do not require grad
        self.whole = False  # they are all that it holds


class Construction(Check):
    """Looks when an optimizer is built, and at its options in the first steps."""

    hears = frozenset({Call.ADD_PARAM_GROUP, Call.CLIP, Call.LOAD_STATE, Call.MODULE_LOAD_STATE})

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._sets = 0  # how many tensors are about to be given in sets
        self._begun = False  # whether an iterator is about to be given of which something was taken
        self._spent: set[int] = set()  # groups that are about to be given an iterator which has been read
        self._group_spent = False  # whether the group that is added is given one
        self._refusal: Refusal | None = None
        self._starts: dict[int, Start] = {}
        self._still: dict[int, Still] = {}  # by observer
        self._told: set[tuple[type[Sighting], int, str]] = set()
        self._empty: set[int] = set()  # observers that were given an iterator which had been read

    # Building

    def optimizer_building(self, given: object, mark: Mark | None) -> None:
        self._refusal = None  # whatever was refused before, the program went on
        self._spent = _spent_groups(given)
        self._begun = any(_is_begun(part) for part in _parts(given))
        self._sets = sum(len(part) for part in _parts(given) if isinstance(part, (set, frozenset)) and len(part) > 1)

    def optimizer_built(
        self, optimizer: Optimizer, given: object, mark: Mark | None, observer: Observer | None
    ) -> None:
        if observer is None:
            return
        if self._sets:
            self.session.take(SetGiven(observer.scene(mark), number=self._sets))
        if self._begun:
            self.session.take(IteratorSpent(observer.scene(mark), begun=True))
        parameters = observer.parameters()
        stems = tuple(observer.name(p) for p in parameters if not p.is_leaf)
        if stems and not any(group.get("differentiable") for group in optimizer.param_groups):
            marks = (stores.stored(frame, stems[0]) for frame in sites.frames(2))
            made = resolve(next((one for one in marks if one), None))
            self.session.take(NonLeafGiven(observer.scene(mark), names=stems, made=made))
        for number, group in enumerate(optimizer.param_groups):
            ids = [id(p) for p in group["params"]]
            twice = {key for key in ids if ids.count(key) > 1} if len(set(ids)) < len(ids) else set()
            if twice:
                names = tuple(dict.fromkeys(observer.name(p) for p in group["params"] if id(p) in twice))
                self.session.take(GivenTwice(observer.scene(mark), names=names))
            if number in self._spent and not ids:
                self._empty.add(observer.watched.index)
                self.session.take(IteratorSpent(observer.scene(mark), group=number))
        self._options(observer, optimizer, optimizer.param_groups, mark)

    def attached(self, observer: Observer) -> None:
        optimizer = observer.optimizer
        if optimizer is not None:
            self._starts[observer.watched.index] = Start(frozenset(vars(optimizer)), dict(optimizer.defaults))

    def _options(
        self, observer: Observer, optimizer: Optimizer, groups: Iterable[dict[str, Any]], mark: Mark | None
    ) -> None:
        """Options that torch lets through."""
        known = {*optimizer.defaults, *_BOOKKEEPING}
        for group in groups:
            if group.get("nesterov") and not group.get("momentum") and "momentum" in group:
                self._odd(observer, mark, "nesterov", True)
            lr = group.get("lr")
            if isinstance(lr, float) and lr < 0:
                self._odd(observer, mark, "lr", lr)
            if not type(optimizer).__module__.startswith("torch.optim"):
                continue
            for key in group:
                near = _near(key, known) if key not in known else ""
                if near:
                    self._odd(observer, mark, key, group[key], near)

    # Steps

    def before_update(self, observer: Observer, mark: Mark | None) -> None:
        index, steps = observer.watched.index, observer.watched.steps
        optimizer = observer.optimizer
        self._refusal = None
        if optimizer is None:
            return
        start = self._starts.get(index)
        if start is not None and (
            len(vars(optimizer)) != len(start.attributes) or optimizer.defaults != start.defaults
        ):
            self._attributes(observer, optimizer, start, mark)
        self._look(observer, optimizer, mark)
        if steps == 1 and not observer.parameters():
            self.session.take(NothingHeld(observer.scene(mark), spent=observer.watched.index in self._empty))
            observer.broken = True

    def _attributes(self, observer: Observer, optimizer: Optimizer, start: Start, mark: Mark | None) -> None:
        """Options that were assigned to the optimizer itself, where nobody reads them."""
        named = [key for key in vars(optimizer) if key not in start.attributes and key in optimizer.defaults]
        for key in named:
            if not hasattr(type(optimizer), key) and not _reads(type(optimizer), key):
                self._attribute(observer, key, vars(optimizer)[key], "", mark)
        for key, value in optimizer.defaults.items():
            if key in start.defaults and not _same(start.defaults[key], value):
                groups = optimizer.param_groups
                if not any(_same(group.get(key), value) for group in groups):
                    self._attribute(observer, key, value, "defaults", mark)

    def _attribute(self, observer: Observer, key: str, value: Any, where: str, mark: Mark | None) -> None:
        from torch.optim import Optimizer

        optimizer = observer.optimizer
        real = optimizer.param_groups[0].get(key) if optimizer is not None and optimizer.param_groups else None
        if not _same(real, value):
            made = None
            if not where:
                made = attribute_set(sites.frames(2), optimizer, key, observer.watched.name, Optimizer)
            if self._is_new(AttributeAssigned, observer, key):
                scene, place = observer.scene(mark), resolve(made)
                self.session.take(AttributeAssigned(scene, option=key, value=value, real=real, where=where, made=place))

    def _look(self, observer: Observer, optimizer: Optimizer, mark: Mark | None) -> None:
        """Note what has been so at every step until now."""
        still = self._still.setdefault(observer.watched.index, Still())
        still.mark, still.step = mark, observer.watched.steps
        if still.zero:
            rates = [group.get("lr") for group in optimizer.param_groups]
            still.zero = bool(rates) and all(isinstance(rate, (int, float)) and rate == 0 for rate in rates)
        if still.frozen is None:
            self._look_first(observer, optimizer, still)
        elif still.frozen:
            flags = {id(p): flag(requires_grad=p.requires_grad, fed=p.grad is not None) for p in observer.parameters()}
            still.frozen = {k: name for k, name in still.frozen.items() if never_trained([flags.get(k, Flag.FROZEN)])}

    def _look_first(self, observer: Observer, optimizer: Optimizer, still: Still) -> None:
        still.frozen = {}
        groups = [group["params"] for group in optimizer.param_groups]
        frozen = [p for group in groups for p in group if not p.requires_grad]
        if not frozen or any(p.grad is not None for p in frozen):
            return
        whole = [p for group in groups if not any(p.requires_grad for p in group) for p in group]
        lone = [p for p in frozen if not self.session.models.name(p)]
        still.whole = len(frozen) == sum(len(group) for group in groups)
        still.frozen = {id(p): observer.name(p) for p in (whole or lone)}
        if still.whole:
            observer.broken = True  # which explains steps without gradients

    def _tell(self, observer: Observer) -> None:
        still = self._still.pop(observer.watched.index, None)
        if still is None:
            return
        optimizer = observer.optimizer
        if optimizer is not None:
            self._still[observer.watched.index] = still
            self._look(observer, optimizer, still.mark)
        elif still.step < observer.steps and still.step < _LONG:
            return  # nobody has looked since
        if still.zero and observer.steps > 1:
            start = self._starts.get(observer.watched.index)
            given = start.defaults.get("lr") if start is not None else None
            if self._is_new(ZeroRate, observer):
                self.session.take(ZeroRate(observer.scene(still.mark), steps=observer.steps, given=given))
        if still.frozen and self._is_new(NeverTrained, observer):
            names, scene = tuple(still.frozen.values()), observer.scene(still.mark)
            self.session.take(NeverTrained(scene, names=names, whole=still.whole, steps=observer.steps))

    def backward_failed(self, event: Event, error: BaseException) -> None:
        for observer in self.session.observers.values():
            optimizer = observer.optimizer
            if optimizer is not None and not observer.watched.steps and "does not require grad" in str(error):
                self._look(observer, optimizer, event.mark)
                self._still[observer.watched.index].zero = False

    def ended(self) -> None:
        for observer in self.session.observers.values():
            self._tell(observer)
        refusal = self._refusal
        if refusal is not None and refusal.words and refusal.words in self.session.record.ended:
            self.session.take(refusal.sighting)

    # Refusals

    def optimizer_refused(self, optimizer: Optimizer, given: object, error: Exception, mark: Mark | None) -> None:
        sighting = self._refused(_why(error), self.session.scene(mark), list(_given_tensors(given)))
        if sighting is not None:
            self._refusal = Refusal(str(error), sighting)

    def _refused(self, why: type[Refused] | None, scene: Scene, tensors: list[Tensor]) -> Sighting | None:
        """What torch's reason means for tensors that an optimizer was to be built of."""
        frames = sites.frames(2)
        if why is RefusedNonLeaf:
            stems = [t for t in tensors if not t.is_leaf]
            names = tuple(name for t in stems if (name := variable(t, frames)))
            marks = (stores.stored(frame, names[0]) for frame in frames) if names else ()
            made = resolve(next((one for one in marks if one is not None), None))
            operation = type(stems[0].grad_fn).__name__.partition("Backward")[0] if stems else ""
            return RefusedNonLeaf(scene, names=names, made=made, operation=operation)
        if why is RefusedTwice:
            ids = [id(t) for t in tensors]
            twice = [t for t in tensors if ids.count(id(t)) > 1]
            known = names_of(self.session.models, twice, frames)
            return RefusedTwice(scene, names=tuple(dict.fromkeys(name for name in known if name)))
        if why is RefusedEmpty:
            return RefusedSpent(scene) if self._spent else RefusedEmpty(scene, hidden=_containers(frames))
        return RefusedSet(scene) if why is RefusedSet else None

    def call_begins(self, kind: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if kind is Call.ADD_PARAM_GROUP:
            group = args[1] if len(args) > 1 else kwargs.get("param_group")
            self._group_spent = isinstance(group, dict) and _is_spent(group.get("params"))
        elif kind is Call.CLIP:
            given = args[0] if args else kwargs.get("parameters")
            name = _spent_variable() if isinstance(given, list) and not given else ""
            observer = next((o for o in self.session.observers.values() if o.awake), None)
            if name and observer is not None and self._is_new(IteratorSpent, observer):
                self.session.take(IteratorSpent(observer.scene(sites.here(2)), names=(name,)))

    def call_ended(
        self, kind: Call, args: tuple[Any, ...], kwargs: dict[str, Any], result: object, error: BaseException | None
    ) -> None:
        if kind is Call.ADD_PARAM_GROUP and error is None:
            observer = self.session.observers.get(id(args[0]))
            if observer is not None:
                self._options(observer, args[0], args[0].param_groups[-1:], sites.here(2))
                if self._group_spent and not args[0].param_groups[-1]["params"]:
                    number = len(args[0].param_groups) - 1
                    self.session.take(IteratorSpent(observer.scene(sites.here(2)), group=number))
        elif error is not None and kind in (Call.ADD_PARAM_GROUP, Call.LOAD_STATE, Call.MODULE_LOAD_STATE):
            sighting: Sighting | None
            if kind is not Call.ADD_PARAM_GROUP:
                sighting = RefusedLoad(self.session.scene(sites.here(2)), words=str(error), groups=_groups(args))
            else:
                why = _why(error)
                sighting = why(self.session.scene(sites.here(2))) if why is not None else None
            if sighting is not None and self._refusal is None:
                self._refusal = Refusal(str(error), sighting)

    def _odd(self, observer: Observer, mark: Mark | None, option: str, value: object, likely: str = "") -> None:
        if self._is_new(OddOption, observer, option):
            self.session.take(OddOption(observer.scene(mark), option=option, value=value, likely=likely))

    def _is_new(self, kind: type[Sighting], observer: Observer, option: str = "") -> bool:
        """Whether nothing of this kind was told of this optimizer before; from now on something was."""
        key = kind, observer.watched.index, option
        new = key not in self._told
        self._told.add(key)
        return new


Refused = RefusedNonLeaf | RefusedEmpty | RefusedTwice | RefusedSet

_REASONS: tuple[tuple[str, type[Refused]], ...] = (
    ("non-leaf Tensor", RefusedNonLeaf),
    ("empty parameter list", RefusedEmpty),
    ("more than one parameter group", RefusedTwice),
    ("organized in ordered collections", RefusedSet),
)


def _why(error: BaseException) -> type[Refused] | None:
    """Which of the reasons torch names, if one of them."""
    if not isinstance(error, (ValueError, TypeError, RuntimeError)):
        return None
    return next((why for piece, why in _REASONS if piece in str(error)), None)


def _parts(given: object) -> Iterator[object]:
    """The containers of parameters that were handed over: what was given, and what its groups hold."""
    yield given
    if isinstance(given, (list, tuple)):
        for group in given:
            if isinstance(group, dict):
                yield group.get("params")


def _is_spent(part: object) -> bool:
    """Whether an iterator has been read to its end already."""
    if isinstance(part, GeneratorType):
        return part.gi_frame is None
    if isinstance(part, (filter, map)):
        return any(_is_spent(source) for source in part.__reduce__()[1][1:])
    return False


def _is_begun(part: object) -> bool:
    """Whether something was taken out of `model.parameters()` before, which the optimizer will lack."""
    if not isinstance(part, GeneratorType) or part.gi_code.co_name != "parameters":
        return False
    return inspect.getgeneratorstate(part) == inspect.GEN_SUSPENDED


def _spent_variable() -> str:
    """The user's variable that holds a generator which has been read to its end; empty if there is none, or several."""
    own = sites.variables(sites.frames(3)[0])
    found = [name for name, value in own.items() if isinstance(value, GeneratorType) and value.gi_frame is None]
    return found[0] if len(found) == 1 else ""


def _spent_groups(given: object) -> set[int]:
    """The groups whose iterator has been read to its end, or will have been by an earlier group."""
    parts = [given] if not isinstance(given, (list, tuple)) else [g.get("params") for g in given if isinstance(g, dict)]
    ids = [id(part) for part in parts]
    return {
        number
        for number, part in enumerate(parts)
        if _is_spent(part) or (isinstance(part, (GeneratorType, filter, map)) and id(part) in ids[:number])
    }


def _given_tensors(given: object) -> Iterator[Tensor]:
    from torch import Tensor

    for part in _parts(given):
        if isinstance(part, (list, tuple, set, frozenset)):
            yield from (item for item in part if isinstance(item, Tensor))
        elif isinstance(part, Tensor):
            yield part


def _containers(frames: Any) -> tuple[str, ...]:
    """Plain containers of layers in the modules that are at hand: "Net.layers" (list)."""
    found: dict[str, None] = {}
    for frame in frames:
        for _, module in modules_of(frame):
            for place in hidden([module]).values():
                found[f"{place.owner.__name__}.{place.attribute}"] = None
    return tuple(found)


def _groups(args: tuple[Any, ...]) -> tuple[int, int]:
    """How many groups an optimizer has, and how many a state has that it is given."""
    own = getattr(args[0], "param_groups", ())
    state = args[1] if len(args) > 1 else None
    given = state.get("param_groups", ()) if isinstance(state, dict) else ()
    return len(own), len(given)


def _same(one: object, other: object) -> bool:
    try:
        return bool(one is other or one == other)
    except Exception:  # tensors of several elements have no truth
        return True


def _reads(kind: type, key: str) -> bool:
    """Whether the class of the user's own reads this attribute somewhere."""
    for base in kind.__mro__:
        if base.__module__.startswith("torch."):
            break
        for value in vars(base).values():
            code = getattr(inspect.unwrap(value) if callable(value) else value, "__code__", None)
            if code is not None and key in code.co_names:
                return True
    return False


def _near(key: str, known: Iterable[str]) -> str:
    """The option that somebody may have meant who wrote `key`; empty if it is like none."""
    import difflib

    plain = key.lower().replace("-", "_")
    names = list(known)
    alias = _ALIASES.get(plain, "")
    return alias if alias in names else next(iter(difflib.get_close_matches(plain, names, 1, 0.8)), "")


_ALIASES = {"learning_rate": "lr", "learningrate": "lr", "rate": "lr", "wd": "weight_decay", "decay": "weight_decay"}
