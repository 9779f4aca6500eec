"""Does the model still hold the tensors that its optimizer was given? Slots that change, ties that break.

Sightings: ParameterReplaced, LayerReplaced, ParameterMoved (a slot of the model holds another object than the
optimizer: by an assignment, or because the model was moved), EntryReplaced (the optimizer's own list was changed by
hand), TieBroken (what was one parameter in two places is two). Leaves that no optimizer holds at all are the
business of `strays`.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from gradcheck_lint.laws.answer import NO
from gradcheck_lint.laws.holding import Exchange, Place, Tied, exchanged, shares_ids, tied
from gradcheck_lint.runtime import sites
from gradcheck_lint.runtime.call import Call
from gradcheck_lint.runtime.check import Check
from gradcheck_lint.runtime.objects import instances
from gradcheck_lint.runtime.reading import beginning, equal
from gradcheck_lint.runtime.references import Ref
from gradcheck_lint.runtime.sightings.holding import (
    EntryReplaced,
    LayerReplaced,
    ParameterMoved,
    ParameterReplaced,
    TieBroken,
)
from gradcheck_lint.runtime.sites import resolve

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import Tensor
    from torch.nn import Module

    from gradcheck_lint.runtime.observer import Observer
    from gradcheck_lint.runtime.session import Session
    from gradcheck_lint.runtime.sighting import Sighting
    from gradcheck_lint.runtime.sites import Mark

_CLOSELY = 3  # steps of each optimizer before which all slots are compared; later only when something was assigned
_VALUES = 16
_MOST = 1000  # changes that are remembered
_PATIENCE = 20  # steps that are waited for a new parameter to take part in a loss

_Kind = Literal["_parameters", "_modules"]
_How = Literal["assigned", "added", "moved"]


class Slot(NamedTuple):
    """A place in a model that held one thing when we looked."""

    owner: weakref.ref[Module]
    kind: _Kind
    key: str
    held: int  # the id of what it held
    name: str
    ids: frozenset[int]  # of the parameters in it


class Change:
    """A slot that holds another thing than before, or one that is new."""

    def __init__(self, slot: Slot, old: frozenset[int], mark: Mark | None, how: _How) -> None:
        self.slot = slot
        self.old = old  # the ids of the parameters that were there; of all of the model if there was no such slot
        self.mark = mark
        self.how = how
        self.age = 0
        self.met: Met | None = None

    def now(self) -> list[Tensor]:
        """The parameters that are there now; none if the old ones are back."""
        owner = self.slot.owner()
        thing = owner.__dict__[self.slot.kind].get(self.slot.key) if owner is not None else None
        if thing is None:
            return []
        parameters = [thing] if self.slot.kind == "_parameters" else list(thing.parameters())
        return [] if {id(parameter) for parameter in parameters} == self.old else parameters


class Met:
    """Parameters that an optimizer has passed by at one step, to see whether they are the same ones at the next."""

    def __init__(self, observer: Observer, parameters: list[Tensor]) -> None:
        self.observer = observer.watched.index
        self.step = observer.watched.steps
        self._known = [(Ref(p), _beginning(p)) for p in parameters]

    def as_they_were(self) -> bool:
        """Whether they are there still, and nobody has moved them: else they are a copy for one step, or trained."""
        now = [(ref(), then) for ref, then in self._known]
        return all(p is not None and equal(_beginning(p), then) for p, then in now)


class Tie(NamedTuple):
    """One parameter in several places."""

    places: tuple[tuple[weakref.ref[Module], str, str], ...]  # the module, the key in it, the full name

    def tensors(self) -> list[Tensor]:
        owners = [(owner(), key) for owner, key, _ in self.places]
        found = [owner._parameters.get(key) for owner, key in owners if owner is not None]
        return [tensor for tensor in found if tensor is not None]


class _Entries(NamedTuple):
    """Tensors that somebody has put into the groups of an optimizer in place of others."""

    ids: set[int]
    gone: set[int]  # the ids of those that they replaced
    backwards: int  # how many backwards of the run there had been
    mark: Mark | None


class Identity(Check):
    """Compares objects, never values."""

    hears = frozenset({Call.MODULE_APPLY, Call.MODULE_LOAD_STATE})

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.told: set[int] = set()  # ids of parameters about which something was said
        self.rebuilt: set[Any] = set()  # the lines that make new parameters for each loss; see `strays`
        self._modules: dict[int, weakref.ref[Module]] = {}  # in which we looked
        self._slots: dict[tuple[int, str, str], Slot] = {}
        self._groups: dict[int, list[list[int]]] = {}
        self._entries: dict[int, _Entries] = {}  # by the number of the optimizer
        self._changes: list[Change] = []
        self._seen = -1  # the number of registrations when we last looked
        self._depth = 0
        self._ties: list[Tie] = []  # of the module that is being moved
        self._broken: list[tuple[Tie, Mark | None]] = []

    def attached(self, observer: Observer) -> None:
        self._groups[observer.watched.index] = [list(map(id, group["params"])) for group in observer.groups()]
        self.told -= observer.ids()

    def model_found(self) -> None:
        """Take note of what is new; what was known before is compared at the next step."""
        known = {key for key, ref in self._modules.items() if ref() is not None}
        for slot in self._look():
            key = (id(slot.owner()), slot.kind, slot.key)
            if key[0] not in known:
                self._slots[key] = slot
        self._modules = self._modules_now()
        if not known:
            self._seen = self.session.registrations.number

    def knows(self, module: Module) -> bool:
        """Whether it is a part of a watched model."""
        known = self._modules.get(id(module))
        return known is not None and known() is module

    def _modules_now(self) -> dict[int, weakref.ref[Module]]:
        return {id(module): weakref.ref(module) for _, module in self.session.models.modules()}

    def _look(self) -> Iterator[Slot]:
        models = self.session.models
        whole = {id(model) for _, model in models}
        for name, module in models.modules():
            if not all(isinstance(vars(module).get(kind), dict) for kind in _KINDS):
                continue  # a scripted module, which keeps them in C++
            ref = weakref.ref(module)
            label = "" if id(module) in whole and len(models) == 1 else f"{name}."
            for key, parameter in module._parameters.items():
                if parameter is not None:
                    yield Slot(ref, "_parameters", key, id(parameter), label + key, frozenset({id(parameter)}))
            for key, child in module._modules.items():
                if child is not None:
                    ids = frozenset(id(parameter) for parameter in child.parameters())
                    yield Slot(ref, "_modules", key, id(child), label + key, ids)

    # Steps

    def before_update(self, observer: Observer, mark: Mark | None) -> None:
        steps = observer.watched.steps
        if steps <= _CLOSELY or observer.sampling.is_sample(steps):
            self.compare("assigned", None)
        self.glance(observer, mark)

    def glance(self, observer: Observer, mark: Mark | None) -> None:
        if self._entries:
            self._judge_entries(observer)
        self._compare_group(observer, mark)
        if self._seen != self.session.registrations.number:
            self.compare("assigned", None)
        if self._broken:
            self._judge_ties(observer, mark)
        if self._changes:
            self._judge(observer, mark)

    def ended(self) -> None:
        for observer in self.session.observers.values():
            self._judge_entries(observer)

    def _compare_group(self, observer: Observer, mark: Mark | None) -> None:
        groups = [list(map(id, group["params"])) for group in observer.groups()]
        known_groups = self._groups.get(observer.watched.index, [])
        if groups == known_groups:
            return
        self._groups[observer.watched.index] = groups
        parameters = observer.parameters()
        ids = [key for group in groups for key in group]
        before = [key for group in known_groups for key in group]
        if ids[: len(before)] == before:  # add_param_group appends
            return
        known = set(before)
        new = [parameter for parameter in parameters if id(parameter) not in known]
        useless = [p for p in new if not self.session.models.name(p) and p.grad is None]
        if useless and set(before) - set(ids):
            gone = set(before) - set(ids)
            self._entries[observer.watched.index] = _Entries(
                {id(p) for p in useless}, gone, self.session.backwards, mark
            )
            observer.broken = True
            self.told |= gone
        observer.renew()

    def _judge_entries(self, observer: Observer) -> None:
        """Tell of new entries once a backward has passed by them: a model that was handed them gives them gradients."""
        new = self._entries.get(observer.watched.index)
        if new is None or self.session.backwards == new.backwards:
            return
        del self._entries[observer.watched.index]
        parameters = observer.parameters()
        useless = [p for p in parameters if id(p) in new.ids and p.grad is None and id(p) not in observer.received]
        if useless:
            self.session.take(EntryReplaced(observer.scene(new.mark), number=len(useless), of=len(parameters)))
        else:
            observer.broken = False
            self.told -= new.gone

    def compare(self, how: Literal["assigned", "moved"], mark: Mark | None) -> None:
        """Look at all slots, and note those that hold something else."""
        same = self._seen == self.session.registrations.number
        self._seen = self.session.registrations.number
        changed = False
        for slot in self._slots.values():
            owner = slot.owner()
            if owner is not None and id(owner.__dict__[slot.kind].get(slot.key)) != slot.held:
                changed = True
                break
        if not changed and same:
            return
        before, self._slots = self._slots, {(id(s.owner()), s.kind, s.key): s for s in self._look()}
        owners, self._modules = self._modules, self._modules_now()
        tied = _tied(before.values())
        for key, slot in self._slots.items():
            owner = slot.owner()
            if owner is None or owners.get(key[0], lambda: None)() is not owner:
                continue  # within something that is new as a whole
            old = before.get(key)
            if old is not None and old.held == slot.held:
                continue
            made = mark or self.session.registrations.lines.get(owner, {}).get(slot.key)
            if old is not None:
                self._changes.append(Change(slot, old.ids, made, how))
            else:
                beside = frozenset(i for s in before.values() for i in s.ids) - slot.ids
                self._changes.append(Change(slot, beside, made, "added" if how == "assigned" else how))
        for tie in tied:
            self._note_tie(tie, mark)
        self.session.models.forget_names()
        for observer in self.session.observers.values():
            observer.subject.forget_names()

    def _judge(self, observer: Observer, mark: Mark | None) -> None:
        """Tell of the new parameters that take part in the loss and that no optimizer has."""
        held: set[int] | None = None
        told: dict[tuple[type[Sighting], Any], list[tuple[Change, list[Tensor]]]] = {}
        rest: list[Change] = []
        ids = observer.ids()
        for change in self._changes:
            mine = shares_ids(ids, change.old) is not NO
            lost: list[Tensor] = []
            if mine:
                change.age += 1
                held = held if held is not None else self.session.roster.held()
                now = [p for p in change.now() if p.requires_grad and id(p) not in self.told]
                lost = [p for p in now if id(p) not in held]
            verdict = exchanged(held=mine, lost=bool(lost), fed=any(p.grad is not None for p in lost))
            if mine and (change.age > _PATIENCE or _line(change.mark) in self.rebuilt):
                continue
            if verdict is not Exchange.LOST:
                rest += [] if verdict is Exchange.SETTLED else [change]
                continue
            if change.how == "added" and (stays := self._stays(change, lost, observer)) is not True:
                rest += [change] if stays is None else []
                continue
            kind = ParameterMoved if change.how == "moved" else _KINDS[change.slot.kind]
            told.setdefault((kind, _line(change.mark)), []).append((change, lost))
        self._changes = rest[-_MOST:]
        if not told:
            return
        elsewhere = held_by_any()
        for (kind, _), pairs in told.items():
            found = {id(p): p for _, lost in pairs for p in lost if id(p) not in elsewhere}
            if not found:
                continue
            self.told |= found.keys()
            observer.broken = observer.broken or not any(p.grad is not None for p in observer.parameters())
            scene, made = observer.scene(mark), resolve(pairs[0][0].mark)
            names = _outermost(change.slot.name for change, _ in pairs)
            added = all(change.how == "added" for change, _ in pairs)
            if kind is ParameterMoved:
                self.session.take(ParameterMoved(scene, names=names, made=made))
            elif kind is ParameterReplaced:
                self.session.take(ParameterReplaced(scene, names=names, made=made, number=len(found), added=added))
            else:
                self.session.take(LayerReplaced(scene, names=names, made=made, number=len(found), added=added))

    def _stays(self, change: Change, lost: list[Tensor], observer: Observer) -> bool | None:
        """Whether what was added is there at the next step too, and is no copy for one step; None: not known yet."""
        met = change.met
        if met is None:
            change.met = Met(observer, lost)
            observer.attention.suspect()  # look at the next step, then
            return None
        if met.observer != observer.watched.index or met.step == observer.watched.steps:
            return None
        return met.as_they_were()

    # Ties

    def call_begins(self, kind: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if kind is not Call.MODULE_APPLY and not (kind is Call.MODULE_LOAD_STATE and _assigns(args, kwargs)):
            return
        self._depth += 1
        if self._depth > 1:
            return
        if self._slots and self.session.registrations.number != self._seen:
            self.compare("assigned", None)  # what was exchanged before is no work of the move
        if self.session.roster.awake() or not self.session.observers:
            slots = [
                (weakref.ref(module), key, f"{name}.{key}" if name else key, id(parameter))
                for name, module in args[0].named_modules()
                for key, parameter in module._parameters.items()
                if parameter is not None
            ]
            self._ties = _ties(slots)

    def call_ended(
        self, kind: Call, args: tuple[Any, ...], kwargs: dict[str, Any], result: object, error: BaseException | None
    ) -> None:
        if kind is not Call.MODULE_APPLY and not (kind is Call.MODULE_LOAD_STATE and _assigns(args, kwargs)):
            return
        self._depth -= 1
        if self._depth or error is not None:
            return
        mark = sites.here(2)
        for tie in self._ties:
            self._note_tie(tie, mark)
        self._ties = []
        if self._slots and self.session.roster.awake():
            self.compare("moved" if kind is Call.MODULE_APPLY else "assigned", mark)

    def _note_tie(self, tie: Tie, mark: Mark | None) -> None:
        if len({id(tensor) for tensor in tie.tensors()}) > 1 and all(
            tie.places != known.places for known, _ in self._broken
        ):
            owner, key, _ = tie.places[-1]
            module = owner()
            made = (
                self.session.registrations.lines.get(module, {}).get(key)
                if module is not None and mark is None
                else mark
            )
            self._broken.append((tie, made))

    def _judge_ties(self, observer: Observer, mark: Mark | None) -> None:
        """Tell of those that have not been tied again by the time of a step, and are trained."""
        ids = observer.ids()
        for item in list(self._broken):
            tie, made = item
            tensors = {id(tensor): tensor for tensor in tie.tensors()}
            verdict = tied([Place(key, t.data_ptr(), key in ids, t.grad is not None) for key, t in tensors.items()])
            if verdict is not Tied.WAITING:
                self._broken.remove(item)
            if verdict is Tied.BROKEN:
                self.told |= {key for key in tensors if key not in ids}
                names = tuple(name for _, _, name in tie.places)
                held = sum(key in ids for key in tensors)
                self.session.take(TieBroken(observer.scene(mark), names=names, made=resolve(made), held=held))


_KINDS: dict[_Kind, type[Sighting]] = {"_parameters": ParameterReplaced, "_modules": LayerReplaced}


def _beginning(parameter: Tensor) -> Tensor:
    """A few of its values."""
    return beginning(parameter, _VALUES)


def _line(mark: Mark | None) -> Any:
    return (mark.code, mark.line) if mark is not None else None


def _assigns(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    return bool(kwargs.get("assign") or (len(args) > 3 and args[3]))


def _outermost(names: Iterable[str]) -> tuple[str, ...]:
    """Those of the names that do not lie within another."""
    found: list[str] = []
    for name in names:
        if not any(name == other or name.startswith(f"{other}.") for other in found):
            found.append(name)
    return tuple(found)


def _tied(slots: Iterable[Slot]) -> list[Tie]:
    return _ties([(slot.owner, slot.key, slot.name, slot.held) for slot in slots if slot.kind == "_parameters"])


def _ties(slots: list[tuple[weakref.ref[Module], str, str, int]]) -> list[Tie]:
    places: dict[int, list[tuple[weakref.ref[Module], str, str]]] = {}
    for owner, key, name, held in slots:
        places.setdefault(held, []).append((owner, key, name))
    return [Tie(tuple(found)) for found in places.values() if len(found) > 1]


def held_by_any() -> set[int]:
    """The ids of the tensors of every optimizer that is alive, watched or not; takes a tenth of a second."""
    from torch.optim import Optimizer

    ids: set[int] = set()
    for optimizer in instances(Optimizer):
        for group in vars(optimizer).get("param_groups", ()):
            ids |= {id(parameter) for parameter in group["params"]}
    return ids
