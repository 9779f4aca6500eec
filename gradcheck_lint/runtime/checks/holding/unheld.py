"""What is kept of the leaves that no optimizer holds, and told when no optimizer has come for them.

Sightings: Unheld (parameters that nobody moves), UnheldTensor, GroupForgotten (they are all in one list that was never
handed over), LayerReplaced (they took the place of what the optimizer holds), LayersUnregistered and
TensorUnregistered (they lie in an attribute of a module that registers nothing), BufferTrained, PartNoModule (they lie
in a part of a module that is none itself), IteratorSpent (the iterator that should have given them was read before).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gradcheck_lint.laws.holding import Missing, Where, missing
from gradcheck_lint.runtime import sites, stores
from gradcheck_lint.runtime.by_hand import differentiates, twins, wants_gradient, writes_networks
from gradcheck_lint.runtime.checks.holding.attributes import hidden
from gradcheck_lint.runtime.checks.holding.collected import lists, spent
from gradcheck_lint.runtime.checks.holding.identity import Identity, held_by_any
from gradcheck_lint.runtime.checks.holding.stray import FRESH, NAMELESS, names_of_all, steps_of_all
from gradcheck_lint.runtime.coming import settled
from gradcheck_lint.runtime.names import Models, names_of
from gradcheck_lint.runtime.references import Ref
from gradcheck_lint.runtime.sightings.building import IteratorSpent
from gradcheck_lint.runtime.sightings.holding import (
    BufferTrained,
    GroupForgotten,
    LayerReplaced,
    LayersUnregistered,
    PartNoModule,
    TensorUnregistered,
    Unheld,
    UnheldTensor,
)
from gradcheck_lint.runtime.sites import resolve

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import FrameType

    from torch import Tensor
    from torch.nn import Module

    from gradcheck_lint.runtime.checks.holding.attributes import Hidden
    from gradcheck_lint.runtime.checks.holding.leaves import Leaves
    from gradcheck_lint.runtime.checks.holding.stray import Stray
    from gradcheck_lint.runtime.observer import Observer
    from gradcheck_lint.runtime.session import Session
    from gradcheck_lint.runtime.sighting import Scene, Sighting
    from gradcheck_lint.runtime.sites import Mark

_NAMED = 200  # parameters of an optimizer whose names are looked up, at most


class Untold:
    """Keeps what is known of them as plain data: they may be gone when it is told."""

    def __init__(self, session: Session, leaves: Leaves) -> None:
        self._session = session
        self._leaves = leaves
        self._frozen: dict[int, Ref] = {}  # parameters that nobody held and that did not require grad, by id
        self._lists: list[tuple[str, frozenset[int], Mark | None]] = []
        self._spent: dict[int, tuple[str, Mark | None]] = {}  # by observer: what left one of its groups empty
        self._loaded: set[int] = set()
        self._called: dict[int, dict[int, str]] = {}  # by observer: what it holds, by names that may be others' later
        self._settled: tuple[set[Mark | None], bool] | None = None  # of optimizers built there: no other will come
        self._by_hand: bool | None = None  # whether the program has code that writes networks; None: not asked yet
        self.models_found = False  # some, since the latest look at what nobody holds
        self.marks: dict[int, Mark | None] = {}  # by observer: of its latest step

    def built(
        self, held: set[int], groups: Sequence[dict[str, Any]], mark: Mark | None, observer: Observer | None
    ) -> None:
        """An optimizer was built in a function that may have collected more parameters than it holds."""
        for frame in sites.frames(3)[:1]:
            for name, ids in lists(frame):
                if not ids & held:
                    self._lists.append((name, ids, stores.stored(frame, name) or mark))
            if observer is not None and not all(group["params"] for group in groups):
                name, made = spent(frame)
                if name:
                    self._spent[observer.watched.index] = (name, made or mark)

    def loaded(self, module: Module) -> None:
        """A state is loaded into it."""
        self._loaded |= {id(parameter) for parameter in module.parameters()}

    def has_loaded(self, parameter: Tensor) -> bool:
        return id(parameter) in self._loaded

    def note_frozen(self, parameters: Iterable[Tensor]) -> None:
        """Nobody holds these."""
        self._frozen |= {id(p): Ref(p) for p in parameters if not p.requires_grad}

    def note_names(self, observer: Observer) -> None:
        """What the user calls those that an optimizer holds, if they are several modules that lie in some object."""
        held = observer.parameters()
        if len(self._session.models) > 1 and len(held) <= _NAMED:
            names = names_of(self._session.models, held, sites.frames(2))
            self._called[observer.watched.index] = {id(p): name for p, name in zip(held, names, strict=True) if name}

    def collect(self, observer: Observer) -> None:
        """A step begins: look at all leaves that were met, and describe those that are new here."""
        identity, leaves = self._session.check(Identity), self._leaves
        held = self._session.roster.held()
        fresh: list[Stray] = []
        steps = steps_of_all(self._session)
        for key, stray in list(leaves.found.items()):
            leaf = stray.look()
            if observer.reads:
                stray.compare()
            stray.trained(steps)
            if leaf is None:
                if key not in leaves.pending:
                    del leaves.found[key]
            elif stray.moved or key in held or key in identity.told or not leaf.requires_grad:
                leaves.pending.pop(key, None)
            elif key not in leaves.pending and (stray.times > 1 or observer.watched.steps == 1):
                stray.step = observer.watched.steps
                fresh.append(stray)
                leaves.pending[key] = stray
        if self.models_found:  # what was met before may lie in one of them
            fresh += [s for s in leaves.pending.values() if s not in fresh and s.hidden is None and s.ref() is not None]
            self.models_found = False
        if fresh:
            self._describe(fresh, observer)

    def _describe(self, strays: list[Stray], observer: Observer) -> None:
        session = self._session
        frames = sites.frames(2)
        names = names_of_all(session, strays, frames)
        attributes = hidden([model for _, model in session.models])
        owners = self._owners(frames, {id(s.ref()) for s in strays})
        called = self._called.get(observer.watched.index, {})
        idle = {called.get(id(p)) for p in observer.parameters() if p.grad is None and p.requires_grad}
        for stray, name in zip(strays, names, strict=True):
            leaf = stray.ref()
            stray.keep(anew=False)
            stray.name = name
            stray.replaces = name in idle
            frozen = self._frozen.get(id(leaf))
            stray.thawed = frozen is not None and frozen() is leaf
            stray.hidden = attributes.get(id(leaf))
            if stray.hidden is not None and not stray.parameter:
                stray.wanted = wants_gradient(stray.hidden.attribute, stray.hidden.owner, frames)
            elif not stray.parameter:
                stray.wanted = differentiates(frames)
            if stray.hidden is not None and name == NAMELESS:
                stray.name = stray.hidden.path
            stray.list = next((n for n, ids, _ in self._lists if id(leaf) in ids), "")
            owner = owners.get(id(leaf))
            stray.fresh = id(leaf) not in self._loaded and _is_fresh(stray, owner, session.options.everything)
        fresh = [(s, owner) for s in strays if s.fresh and (owner := owners.get(id(s.ref()))) is not None]
        followers = self._followers([owner for _, owner in fresh], frames)
        for stray, owner in fresh:
            stray.fresh = id(owner) not in followers
        made = session.roster.fed()
        if any(p.grad is not None and id(p) not in made for p in observer.parameters()):
            for stray in strays:
                stray.moved = True  # somebody copies gradients from one to the other
            gone = set(map(id, strays))
            self._leaves.pending = {key: s for key, s in self._leaves.pending.items() if id(s) not in gone}

    def _owners(self, frames: list[FrameType], ids: set[int]) -> dict[int, Module]:
        """The module in which each of these parameters lies."""
        models = Models()
        models.find(frames, ids)
        roots = [model for _, model in (*self._session.models, *models)]
        modules = [module for model in roots for module in model.modules()]
        return {id(p): module for module in modules for p in module._parameters.values() if id(p) in ids}

    def _followers(self, modules: Sequence[Module], frames: list[FrameType]) -> set[int]:
        """The ids of those that may be a target or an average, which the program will write some steps later."""
        if modules and self._by_hand is None:
            self._by_hand = writes_networks(frames)
        if not modules or not self._by_hand:
            return set()
        held = self._session.roster.held()
        trained = (m for _, m in self._session.models.modules() if any(id(p) in held for p in m.parameters()))
        return twins(modules, trained)

    # Telling

    def tell_what_is_certain(self) -> None:
        """The same as `tell` as soon as it is known that nobody will come for them; the rest stays to be told."""
        pending = self._leaves.pending
        certain = {key: s for key, s in pending.items() if s.parameter and s.fresh and s.times > 1}
        if not certain or not self._nobody_comes():
            return
        self._leaves.pending = certain
        self.tell()
        self._leaves.pending = {key: s for key, s in pending.items() if key not in certain}

    def _nobody_comes(self) -> bool:
        """Asked once for all optimizers that there are: it goes over all code at hand."""
        built = {observer.built for observer in self._session.observers.values()}
        if self._settled is None or self._settled[0] != built:
            self._settled = (built, settled(built, sites.frames(3)))
        return self._settled[1]

    def tell(self) -> None:
        """One sighting for each kind of leaf that nobody holds."""
        identity = self._session.check(Identity)
        observers = {observer.watched.index: observer for observer in self._session.observers.values()}
        for (why, mistake), strays in self._kinds(self._ripe()).items():
            about = [s.observers for s in strays.values()]
            index = min((i for some in about for i in some), default=-1)
            observer = observers.get(index)
            if observer is None:
                continue
            identity.told |= strays.keys()
            if why is Missing.LEFT_OUT and mistake and index in self._spent:
                name, made = self._spent[index]
                sighting: Sighting = IteratorSpent(observer.scene(made), names=_names(strays.values()), iterator=name)
            else:
                sighting = self._sighting(why, observer, list(strays.values()))
            self._session.take(sighting)

    def _ripe(self) -> dict[int, Stray]:
        """Those that were pending, and are still held by nobody."""
        identity, leaves = self._session.check(Identity), self._leaves
        steps = steps_of_all(self._session)
        for stray in leaves.pending.values():
            stray.trained(steps)
            stray.compare()
        pending = {k: s for k, s in leaves.pending.items() if k not in identity.told and not s.moved}
        leaves.pending = {}
        alive = {key for key, stray in pending.items() if stray.look() is not None}
        if alive:
            elsewhere = held_by_any()
            pending = {k: s for k, s in pending.items() if k not in elsewhere or k not in alive}
        return pending

    def _kinds(self, pending: dict[int, Stray]) -> dict[tuple[Missing, object], dict[int, Stray]]:
        """By kind, and by what makes them one mistake."""
        kinds: dict[tuple[Missing, object], dict[int, Stray]] = {}
        for key, stray in pending.items():
            hidden = stray.hidden
            why = missing(
                hidden.where if hidden is not None else Where.REGISTERED,
                parameter=stray.parameter,
                listed=bool(stray.list) and self._whole(stray.list, pending),
                fresh=stray.fresh,
                replaces=stray.replaces,
            )
            seldom = stray.times < 2 and self._session.backwards > 1
            if stray.moved or (seldom and why is not Missing.LAYERS):
                continue
            about: object = ""
            if hidden is not None:
                about = hidden.owner if why is Missing.LAYERS else hidden.attribute  # the former: one of a class
            elif why is Missing.LIST:
                about = stray.list
            elif why is Missing.LEFT_OUT:
                about = (stray.thawed or stray.fresh) and ("meant" if stray.meant else "missed")
            kinds.setdefault((why, about), {})[key] = stray
        return kinds

    def _whole(self, name: str, pending: dict[int, Stray]) -> bool:
        return any(ids <= pending.keys() for other, ids, _ in self._lists if other == name)

    def _sighting(self, why: Missing, observer: Observer, strays: list[Stray]) -> Sighting:
        scene = observer.scene(self.marks.get(observer.watched.index) or observer.mark_of("step"))
        scene = replace(scene, step=min(stray.step for stray in strays))
        names = _names(strays)
        plain = all(stray.plain for stray in strays)
        if why is Missing.REPLACED:
            return _layers_replaced(scene, strays)
        if why is Missing.LIST:
            name = strays[0].list
            made = resolve(next((mark for other, _, mark in self._lists if other == name), None))
            return GroupForgotten(scene, names=names, list=name, made=made)
        if why is Missing.TENSOR:
            return UnheldTensor(
                scene,
                names=names,
                plain=plain,
                wanted=any(stray.wanted for stray in strays),
                cleared=all(stray.cleared for stray in strays),
                piled_up=all(stray.piled_up for stray in strays),
            )
        fresh = all(stray.fresh for stray in strays)
        places = [stray.hidden for stray in strays if stray.hidden is not None]
        if not places:
            meant, thawed = all(stray.meant for stray in strays), all(stray.thawed for stray in strays)
            return Unheld(scene, names=names, fresh=fresh, meant=meant, thawed=thawed, plain=plain)
        if why is Missing.LAYERS:
            return _layers_unregistered(scene, names, places)
        place = places[0]
        made = next((site for one in places if (site := one.made()) is not None), None)
        if why is Missing.OBJECT:
            holder = place.holder.__name__ if place.holder is not None else ""
            return PartNoModule(
                scene, names=names, attribute=place.attribute, owner=place.owner.__name__, holder=holder, fresh=fresh,
                made=made,
            )  # fmt: skip
        wanted = any(stray.wanted for stray in strays)
        if why is Missing.BUFFER:
            owner = place.owner.__name__
            return BufferTrained(scene, names=names, attribute=place.attribute, owner=owner, wanted=wanted, made=made)
        return TensorUnregistered(scene, names=names, attribute=place.attribute, wanted=wanted, made=made)


def _layers_unregistered(scene: Scene, names: tuple[str, ...], hidden: Sequence[Hidden]) -> Sighting:
    """Layers that attributes of one class do not register: one mistake, with a place for each attribute."""
    places = {place.attribute: place for place in hidden}
    made = {name: place.made() for name, place in places.items()}
    attributes = sorted(places, key=lambda name: site.line if (site := made[name]) is not None else 0)
    first = places[attributes[0]]
    return LayersUnregistered(
        scene,
        names=names,
        attributes=tuple(attributes),
        owner=first.owner.__name__,
        container=first.container,
        made=made[attributes[0]],
        beside=tuple(made[name] for name in attributes[1:]),
    )


def _layers_replaced(scene: Scene, strays: Sequence[Stray]) -> Sighting:
    """Layers that took the place of others in an object that is no module: nobody was told of it then."""
    return LayerReplaced(
        scene,
        names=tuple(dict.fromkeys(stray.name.rpartition(".")[0] for stray in strays)),
        made=resolve(next((stray.mark for stray in strays if stray.mark is not None), None)),
        number=len(_names(strays)),
        added=False,
    )


def _names(strays: Iterable[Stray]) -> tuple[str, ...]:
    """Each name once, for what replaces a thing may be replaced again; those without one all count."""
    return tuple(
        {stray.name if stray.name != NAMELESS else key: stray.name for key, stray in enumerate(strays)}.values()
    )


def _is_fresh(stray: Stray, owner: Module | None, everything: bool) -> bool:
    """Whether nothing was written into a parameter since its layer was built, so that its values are random ones."""
    if owner is None:
        return stray.version <= 1
    if not owner.training:
        return False
    if type(owner).__module__.startswith("torch.nn"):
        return 1 <= stray.version <= (FRESH if everything else 1)
    return stray.version <= 1
