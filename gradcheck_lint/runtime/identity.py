"""Do model and optimizer hold the same tensors? Slots of the model that change, and leaves that nobody holds.

Sightings: "parameter-replaced", "layer-replaced" (a slot of the model holds another object than the optimizer),
"entry-replaced" (the optimizer's own list was changed by hand), "unheld" (backward fills a tensor that no optimizer
holds).
"""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

from gradcheck_lint.runtime.checks import Check

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor
    from torch.nn import Module

    from gradcheck_lint.runtime.observer import Observer
    from gradcheck_lint.runtime.record import Event
    from gradcheck_lint.runtime.session import Session
    from gradcheck_lint.runtime.sites import Mark

WALKS = 3  # backwards whose graph is walked before sampling begins
_RARELY = 10  # of the steps that are checked in full, one in so many walks the graph again


class Slot(NamedTuple):
    """A place in a model that held one thing when we looked first."""

    owner: weakref.ref[Module]
    kind: str  # "_parameters" or "_modules"
    key: str
    held: int  # the id of what it held
    name: str
    ids: frozenset[int]  # of the parameters in it


class Unheld(NamedTuple):
    """A leaf that got a gradient and that no watched optimizer holds."""

    ref: weakref.ref[Tensor]
    first: int  # the backward at which it was met


class Identity(Check):
    """Compares objects, never values."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._slots: list[Slot] = []
        self._groups: dict[int, list[int]] = {}
        self._unheld: dict[int, Unheld] = {}
        self._told: set[int] = set()
        self._unreached: dict[int, int] = {}

    # Slots

    def attached(self, observer: Observer) -> None:
        self._groups[observer.watched.index] = [id(p) for p in observer.parameters()]

    def model_found(self) -> None:
        self._slots = []
        for name, module in self.session.models.modules():
            ref = weakref.ref(module)
            label = "" if any(module is model for _, model in self.session.models) else f"{name}."
            for key, parameter in module._parameters.items():
                if parameter is not None:
                    ids = frozenset({id(parameter)})
                    self._slots.append(Slot(ref, "_parameters", key, id(parameter), label + key, ids))
            for key, child in module._modules.items():
                if child is not None:
                    ids = frozenset(id(parameter) for parameter in child.parameters())
                    self._slots.append(Slot(ref, "_modules", key, id(child), label + key, ids))

    def before_update(self, observer: Observer, mark: Mark | None) -> None:
        self._compare_group(observer, mark)
        changed = []
        for slot in self._slots:
            owner = slot.owner()
            if owner is not None:
                now = owner.__dict__[slot.kind].get(slot.key)
                if id(now) != slot.held:
                    changed.append((slot, owner, now))
        if not changed:
            return
        for slot, owner, now in changed:
            self._tell_replaced(slot, owner, now, mark)
        self.session.models.forget_names()
        for other in self.session.observers.values():
            other.names.clear()
        self.model_found()

    def _compare_group(self, observer: Observer, mark: Mark | None) -> None:
        ids = [id(p) for p in observer.parameters()]
        before = self._groups.get(observer.watched.index, [])
        if ids != before:
            self._groups[observer.watched.index] = ids
            if ids[: len(before)] != before:  # add_param_group appends
                gone = [index for index, key in enumerate(before) if index >= len(ids) or ids[index] != key]
                parameters = observer.parameters()
                names = tuple(observer.name(parameters[index]) for index in gone if index < len(parameters))
                observer.sight("entry-replaced", mark, names=names, entries=tuple(gone))
                observer.renew()

    def _tell_replaced(self, slot: Slot, owner: Module, now: Any, mark: Mark | None) -> None:
        held = self.session.held()
        made = self.session.registrations.get(owner, {}).get(slot.key)
        losers = [o for o in self.session.observers.values() if slot.ids & o.ids()]
        if not losers:
            return  # what was there before belonged to no optimizer either
        if slot.kind == "_parameters":
            new = [now] if now is not None else []
        else:
            new = list(now.parameters()) if now is not None else []
        lost = [parameter for parameter in new if parameter.requires_grad and id(parameter) not in held]
        for observer in losers:
            self._told |= {id(parameter) for parameter in lost}
            if lost or now is None:
                observer.sight(
                    "parameter-replaced" if slot.kind == "_parameters" else "layer-replaced",
                    mark,
                    names=(slot.name,),
                    made=made,
                    removed=now is None,
                    number=len(lost),
                    moved=bool(new) and all(p.device != q.device for p, q in zip(new, self._old(observer, slot))),
                )

    @staticmethod
    def _old(observer: Observer, slot: Slot) -> list[Tensor]:
        return [parameter for parameter in observer.parameters() if id(parameter) in slot.ids]

    # Leaves

    def backward_begins(self, roots: Sequence[Tensor], event: Event, options: dict[str, Any]) -> None:
        session = self.session
        number = session.backwards
        if number > WALKS and (number % (session.options.every * _RARELY)):
            return
        if options.get("inputs") is not None:
            return
        reached = session.walk(roots)
        if not reached.whole:
            return
        held = session.held()
        leaves = {id(leaf): leaf for leaf in reached.leaves}
        for observer in session.observers.values():
            if not observer.ids() & leaves.keys():
                index = observer.watched.index
                self._unreached[index] = self._unreached.get(index, 0) + 1
        for key, leaf in leaves.items():
            if key in held:
                continue
            known = self._unheld.get(key)
            if known is None or known.ref() is not leaf:
                self._unheld[key] = Unheld(weakref.ref(leaf), number)

    def stepped(self, observer: Observer, mark: Mark | None) -> None:
        if observer.watched.steps == 2 and self._unheld and mark is not None:
            self._judge(observer, mark)

    def ended(self) -> None:
        for observer in self.session.observers.values():
            if observer.watched.steps >= 1 and self._unheld:
                latest = observer.latest.get("step")
                self._judge(observer, latest.mark if latest else None)

    def _judge(self, observer: Observer, mark: Mark | None) -> None:
        """Tell which leaves had gradients at two backwards and belong to no optimizer that there is."""
        from torch.nn import Parameter

        held = self.session.held()
        lost = [(key, leaf) for key, unheld in self._unheld.items() if (leaf := unheld.ref()) is not None]
        lost = [(key, leaf) for key, leaf in lost if key not in held and key not in self._told and leaf.requires_grad]
        if not lost:
            return
        elsewhere = _held_by_any()
        lost = [(key, leaf) for key, leaf in lost if key not in elsewhere]
        unfed = [p for p in observer.parameters() if p.requires_grad and id(p) not in observer.received]
        self._told |= {key for key, _ in lost}
        for parameters in (True, False):
            chosen = [leaf for _, leaf in lost if isinstance(leaf, Parameter) is parameters]
            if not chosen:
                continue
            names = tuple(self.session.name(leaf) or "a tensor without a name" for leaf in chosen)
            twins = tuple(
                observer.name(p) for p in unfed if any(p.shape == leaf.shape and p is not leaf for leaf in chosen)
            )
            observer.sight(
                "unheld",
                mark,
                names=names,
                parameters=parameters,
                shapes=tuple(tuple(leaf.shape) for leaf in chosen),
                instead_of=twins,
                unfed=len(unfed),
                held=len(observer.parameters()),
            )


def _held_by_any() -> set[int]:
    """The ids of the tensors of every optimizer that is alive; takes a tenth of a second."""
    from torch.optim import Optimizer

    ids: set[int] = set()
    for thing in gc.get_objects():
        if issubclass(type(thing), Optimizer):
            for group in vars(thing).get("param_groups", ()):
                ids |= {id(parameter) for parameter in group["params"]}
    return ids
