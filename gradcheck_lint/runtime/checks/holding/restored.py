"""What was restored from a checkpoint, and whether it is still there, and in its place, when training goes on.

An optimizer knows its parameters by number alone. The keys of the state that the model was given tell in which order
the model of the checkpoint had them: where that is another order, the optimizer's state goes to other parameters.
Sightings: StatePermuted, RateLost (a scheduler that was built after the optimizer's state was loaded has set the
rate back), RestoredInVain (another optimizer was built after that, and trains).
"""

from __future__ import annotations

import gc
import linecache
import weakref
from collections.abc import Mapping
from dataclasses import field
from types import GeneratorType
from typing import TYPE_CHECKING, Any

from gradcheck_lint.laws.clock import LOADS_SCHEDULE, SETTING
from gradcheck_lint.runtime import sites
from gradcheck_lint.runtime.call import Call
from gradcheck_lint.runtime.check import Check
from gradcheck_lint.runtime.checks.holding.storage import SHAPED
from gradcheck_lint.runtime.reading import plain_rates
from gradcheck_lint.runtime.sightings.holding import RateLost, RestoredInVain, StatePermuted
from gradcheck_lint.runtime.sites import resolve
from gradcheck_lint.runtime.structs import struct

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor
    from torch.nn import Module
    from torch.optim import Optimizer

    from gradcheck_lint.runtime.observer import Observer
    from gradcheck_lint.runtime.session import Session
    from gradcheck_lint.runtime.sites import Mark

_SEARCHES = 4  # for what else was in a checkpoint, through all objects there are
_PREFIXES = ("", "module.", "_orig_mod.", "model.")

Order = tuple[str, ...]  # the keys of a state
Groups = list[list["Tensor"]]


@struct
class Load:
    """The last time that an optimizer was given a state."""

    mark: Mark | None
    step: int  # how many steps it had made
    ids: frozenset[int]
    rates: list[float]
    remembers: bool  # whether there was something in it
    settled: bool = False  # whether it is known that everything is in its place, or not
    beside: tuple[Order, ...] = ()  # what lay beside it in the checkpoint, if the model was given nothing by then
    schedulers: list[tuple[weakref.ref[Any], Mark | None]] = field(default_factory=list)  # that were built since
    reset: list[float] | None = None  # the rates as the last of them left them
    counts: bool = False  # the checkpoint has the state of a schedule that had moved


class Restored(Check):
    """Looks when something is loaded, and at the first step after that. Compares keys, shapes and rates."""

    hears = frozenset({Call.LOAD_STATE, Call.MODULE_LOAD_STATE, Call.SCHEDULER_BUILD, Call.SCHEDULER_STEP})

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._orders: dict[int, tuple[weakref.ref[Module], Order]] = {}  # of the states that models were given
        self._loads: dict[int, Load] = {}  # by observer
        self._as_they_come: set[int] = set()  # observers of optimizers that were given `model.parameters()`
        self._names: list[Any] = []  # the names that the groups have before a state is loaded
        self._searches = _SEARCHES
        self._told: set[int] = set()  # observers

    def optimizer_built(
        self, optimizer: Optimizer, given: object, mark: Mark | None, observer: Observer | None
    ) -> None:
        if observer is not None and _as_they_come(given):
            self._as_they_come.add(observer.watched.index)

    def call_begins(self, kind: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if kind is Call.LOAD_STATE:
            self._names = [group.get("param_names") for group in getattr(args[0], "param_groups", ())]

    def call_ended(
        self, kind: Call, args: tuple[Any, ...], kwargs: dict[str, Any], result: object, error: BaseException | None
    ) -> None:
        if error is not None:
            return
        if kind is Call.MODULE_LOAD_STATE:
            self._model_loaded(args[0], args[1] if len(args) > 1 else kwargs.get("state_dict"))
        elif kind is Call.LOAD_STATE:
            observer = self.session.observers.get(id(args[0]))
            if observer is not None:
                self._optimizer_loaded(observer, args[1] if len(args) > 1 else kwargs.get("state_dict"))
        elif self._loads:
            self._scheduled(args[0], built=kind is Call.SCHEDULER_BUILD)

    # Order

    def _model_loaded(self, module: Module, state: object) -> None:
        keys = _keys(state)
        latest = next(reversed(self._orders.values()), None)
        if not keys or (latest is not None and latest[0]() is module and latest[1] == keys):
            return
        for part in module.modules():
            self._orders.pop(id(part), None)
        self._orders[id(module)] = (weakref.ref(module), keys)
        for observer in self.session.observers.values():
            load = self._loads.get(observer.watched.index)
            if load is not None and load.step == observer.steps and not load.settled:
                self._judge(observer, load, *self._saved(observer, load.beside))

    def _optimizer_loaded(self, observer: Observer, state: object) -> None:
        optimizer = observer.optimizer
        if optimizer is None or not isinstance(state, Mapping):
            return
        remembers = any(_remembered(optimizer.state.get(p, {})) for p in observer.parameters())
        load = Load(sites.here(), observer.steps, frozenset(observer.ids()), plain_rates(observer), remembers)
        self._loads[observer.watched.index] = load
        if any("initial_lr" in group for group in state.get("param_groups", ())):
            load.counts = any(map(_has_moved, self._values_beside(state)))
        named = _by_names(observer, self._names, [group.get("param_names") for group in state.get("param_groups", ())])
        hooked = getattr(optimizer, "_optimizer_load_state_dict_pre_hooks", None)  # which may see to the order
        if not remembers or hooked or observer.watched.index in self._told:
            load.settled = True
        elif named is not None:
            self._judge(observer, load, named, sure=True)
            load.settled = True
        elif not self._known(observer):
            load.beside = self._beside(state)
        elif self._saved(observer, ())[0] is not None:
            self._judge(observer, load, *self._saved(observer, self._beside(state)))

    def _models(self) -> list[tuple[Module, Order]]:
        """The models that were given a state, with its keys."""
        return [(module, keys) for ref, keys in self._orders.values() if (module := ref()) is not None]

    def _known(self, observer: Observer) -> bool:
        """Whether all that it holds belongs to models that were given a state."""
        return observer.ids() <= {id(p) for module, _ in self._models() for p in module.parameters()}

    def _saved(self, observer: Observer, beside: Sequence[Order]) -> tuple[Groups | None, bool]:
        """The parameters in the order of the checkpoint (None if that is the same), and whether it is sure."""
        groups: Groups = [list(group["params"]) for group in observer.groups()]
        now, sure = groups, observer.watched.index in self._as_they_come
        for module, keys in self._models():
            names: dict[str, Tensor] = dict(module.named_parameters(remove_duplicate=False))
            if not names.keys() <= set(keys) or _sorted(names, keys):
                continue  # of a state that was sorted nobody knows how it was before
            following = _reordered(now, names, keys)
            if following is None:
                return None, False
            if any(map(_differ, now, following)):
                if [key for key in module.state_dict() if key in names] != list(names):
                    return None, False  # a hook puts the keys into an order of its own
                wanted = tuple(key for key in keys if key in names)
                sure = sure and any(_contains(order, wanted) for order in beside)
            now = following
        return (now if any(map(_differ, groups, now)) else None), sure

    def _beside(self, state: object) -> tuple[Order, ...]:
        """The keys of the states that lie beside this one in a checkpoint."""
        return tuple(keys for value in self._values_beside(state) if (keys := _keys(value)))

    def _values_beside(self, state: object) -> list[Any]:
        if not self._searches:
            return []
        self._searches -= 1
        found: list[Any] = []
        around: list[Any] = [state]
        for _ in range(2):
            around = [
                thing
                for thing in gc.get_referrers(*around)
                if type(thing) in (dict, list) and not (type(thing) is dict and "__builtins__" in thing)
            ]
            for thing in around:
                if isinstance(thing, dict):
                    found += [value for value in list(thing.values()) if value is not state]
        return found

    def _judge(self, observer: Observer, load: Load, saved: Groups | None, sure: bool) -> None:
        """Tell, if what is in the state is of the shapes that it has in this order."""
        optimizer = observer.optimizer
        if optimizer is None or saved is None:
            return
        moved: list[tuple[Tensor, Tensor]] = []
        for group, before in zip(observer.groups(), saved, strict=True):
            for parameter, other in zip(group["params"], before, strict=True):
                shapes = [value.shape for value in _remembered(optimizer.state.get(parameter, {}))]
                if any(shape != other.shape for shape in shapes):
                    return
                if shapes and parameter is not other:
                    moved.append((parameter, other))
        if moved:
            self._told.add(observer.watched.index)
            load.settled = True
            self.session.take(
                StatePermuted(
                    observer.scene(load.mark),
                    names=tuple(observer.name(parameter) for parameter, _ in moved),
                    given=tuple(observer.name(other) for _, other in moved),
                    total=len(observer.parameters()),
                    sure=sure,
                )
            )

    # The rate

    def _scheduled(self, scheduler: Any, *, built: bool) -> None:
        """A scheduler was built, or moves: torch moves it once when it is built."""
        optimizer = getattr(scheduler, "optimizer", None)
        observer = self.session.observers.get(id(getattr(optimizer, "optimizer", optimizer)))
        load = self._loads.get(observer.watched.index) if observer is not None else None
        if observer is None or load is None or load.step != observer.steps:
            return
        if built:
            load.schedulers.append((weakref.ref(scheduler), sites.here()))
        load.reset = plain_rates(observer)

    def before_update(self, observer: Observer, mark: Mark | None) -> None:
        if not self._loads:
            return
        load = self._loads.get(observer.watched.index)
        if load is None:
            if observer.watched.steps == 1:
                self._in_vain(observer, mark)
        elif load.step + 1 == observer.watched.steps and load.schedulers:
            self._compare_rates(observer, load)
            load.schedulers = []

    def _compare_rates(self, observer: Observer, load: Load) -> None:
        now = plain_rates(observer)
        lost = [(rate, before) for rate, before in zip(now, load.rates, strict=False) if rate != before]
        if not lost or now != load.reset:
            return  # somebody has set the rate since
        for ref, mark in load.schedulers:
            scheduler = ref()
            if getattr(scheduler, "_last_lr", None) == load.rates:
                epoch = getattr(scheduler, "last_epoch", 0)
                (rate, before), loaded = lost[0], resolve(load.mark)
                self.session.take(RateLost(observer.scene(mark), now=rate, restored=before, epoch=epoch, loaded=loaded))
                return
        if load.counts and load.remembers and len(load.schedulers) == 1 and len(now) == len(load.rates):
            self._begun_anew(observer, load, *lost[0])

    def _begun_anew(self, observer: Observer, load: Load, rate: float, before: float) -> None:
        """A schedule that nobody gave its count has set the rate back to that of its beginning."""
        ((ref, mark),) = load.schedulers
        scheduler = ref()
        if type(scheduler).__name__ not in SETTING or getattr(scheduler, "last_epoch", None) != 0:
            return
        text = "".join(linecache.getlines(mark.code.co_filename)) if mark is not None else ""
        sure = bool(text) and not LOADS_SCHEDULE.search(text)
        scene, loaded = observer.scene(mark), resolve(load.mark)
        self.session.take(RateLost(scene, now=rate, restored=before, epoch=0, loaded=loaded, counted=False, sure=sure))

    def resumes(self, observer: Observer) -> bool:
        """Whether the optimizer was given what it remembers of its parameters, and has made no step since."""
        load = self._loads.get(observer.watched.index)
        return load is not None and load.remembers and load.step + 1 >= observer.watched.steps

    # Another optimizer

    def _in_vain(self, observer: Observer, mark: Mark | None) -> None:
        """The first step of an optimizer that was given no state, while another had one for the same parameters."""
        optimizer = observer.optimizer
        ids = observer.ids()
        if optimizer is None or optimizer.state:
            return
        for other in self.session.observers.values():
            load = self._loads.get(other.watched.index)
            if other.watched.index > observer.watched.index or load is None or load.step != other.steps:
                continue
            if load.remembers and load.ids <= ids:
                scene = observer.scene(observer.built or mark)
                self.session.take(RestoredInVain(scene, loaded=resolve(load.mark), other=other.label))
                return


def _has_moved(value: object) -> bool:
    """Whether it is the state of a schedule that is past its beginning."""
    if type(value) is not dict or not {"last_epoch", "_last_lr"} <= value.keys():
        return False
    return isinstance(value["last_epoch"], int) and value["last_epoch"] > 0


def _as_they_come(given: object) -> bool:
    """Whether an optimizer was given the parameters of a module in the module's own order, perhaps not all."""
    while isinstance(given, filter):
        given = given.__reduce__()[1][1]
    return isinstance(given, GeneratorType) and given.gi_code.co_name in ("parameters", "named_parameters")


def _keys(state: object) -> Order:
    """The keys of a state of a model; () for anything else."""
    from torch import Tensor

    if not isinstance(state, Mapping) or not state:
        return ()
    if not all(type(key) is str for key in state) or not any(isinstance(value, Tensor) for value in state.values()):
        return ()
    return tuple(state)


def _remembered(state: Any) -> list[Tensor]:
    """What an optimizer remembers of a parameter in the parameter's shape."""
    if not isinstance(state, Mapping):
        return []
    return [value for key, value in state.items() if key in SHAPED and getattr(value, "ndim", 0) > 0]


def _by_names(observer: Observer, own: list[Any], given: list[Any]) -> Groups | None:
    """The parameters in the order in which the state names them; None where they have no names, or other ones."""
    groups: Groups = []
    for group, names, others in zip(observer.groups(), own, given, strict=False):
        held = group["params"]
        if not names or not others or len(names) != len(held) or sorted(names) != sorted(others):
            return None
        named = dict(zip(names, held, strict=True))
        groups.append([named[name] for name in others])
    return groups if len(groups) == len(observer.groups()) else None


def _reordered(groups: Groups, names: dict[str, Tensor], keys: Order) -> Groups | None:
    """The groups, with the parameters of one model in the order of these keys.

    None if they are not in the order of the model now: somebody has put them in an order of his own.
    """
    at = {key: number for number, key in enumerate(keys)}
    own: dict[int, int] = {}
    then: dict[int, int] = {}
    for number, (name, parameter) in enumerate(names.items()):
        own.setdefault(id(parameter), number)
        then[id(parameter)] = min(then.get(id(parameter), len(keys)), at[name])
    found: Groups = []
    for group in groups:
        mine = [parameter for parameter in group if id(parameter) in own]
        numbers = [own[id(parameter)] for parameter in mine]
        if numbers != sorted(numbers):
            return None
        following = iter(sorted(mine, key=lambda parameter: then[id(parameter)]))
        found.append([next(following) if id(parameter) in own else parameter for parameter in group])
    return found


def _sorted(names: dict[str, Tensor], keys: Order) -> bool:
    """Whether the keys are in the order of the alphabet, as safetensors has them for each dtype."""
    kinds = {names[key].dtype for key in keys if key in names}
    runs = [[key for key in keys if key in names and names[key].dtype == kind] for kind in kinds]
    return all(run == sorted(run) for run in runs)


def _contains(order: Order, wanted: Order) -> bool:
    """Whether a state with these keys is the one that has the wanted ones, in their order, maybe behind a prefix."""
    for prefix in _PREFIXES:
        names = {prefix + key for key in wanted}
        if [key for key in order if key in names] == [prefix + key for key in wanted]:
            return True
    return False


def _differ(one: list[Tensor], other: list[Tensor]) -> bool:
    return any(a is not b for a, b in zip(one, other, strict=True))
