"""What a value lets its holder reach: optimizers, modules, parameters and gradients, however they are held.

Whoever is handed one of these, or holds one as a receiver, in a closure, in a global name or in a container, may turn
the gradient cycle. `holdings` follows all these ways. What a tensor was computed from does not count: who has the
output of a model does not have the model.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable
from typing import TYPE_CHECKING

from gradcheck_lint.source import tree
from gradcheck_lint.source.effort import spend
from gradcheck_lint.source.natures import (
    Data,
    Grad,
    Group,
    GroupParams,
    Groups,
    Instance,
    LossScaled,
    MethodCaller,
    Module,
    Opaque,
    Optimizer,
    Parameters,
    Pass,
    Scaler,
    Scheduler,
    StateDict,
    Super,
    Tensor,
)
from gradcheck_lint.source.run.lazy import Lazy
from gradcheck_lint.source.values import (
    Choice,
    ClassValue,
    Constant,
    External,
    FunctionValue,
    Items,
    ModuleValue,
    Natures,
    Partial,
    Table,
    Thing,
    Value,
    options,
    things,
)

if TYPE_CHECKING:
    from gradcheck_lint.source.run.machine import Machine


_TURNABLE = (Optimizer, Scaler, Module, Parameters, Grad, Groups, Group, GroupParams, Data)
"""What the cycle of gradients can be turned with."""


PLAIN = frozenset(
    "training name config cfg conf args hparams device dtype shape ndim state defaults lr requires_grad is_leaf"
    " __class__ __name__ __doc__ __dict__".split()
)
"""Attributes of modules, optimizers and parameters that are plain values: who has one cannot reach their owner."""


KEPT = (Optimizer, Instance)
"""What a module may have as an attribute, through which its holder reaches more than its tensors."""


MOST = 128  # values looked at for one question; what holds more is taken to hold anything


_WORD = re.compile(r"[^\W\d]\w*")


class Holdings:
    """What values hold, found once: `things`, in the order in which they were met; `anything` if it may be more."""

    def __init__(self, machine: Machine, values: Iterable[Value | None], *, spelt: bool = False) -> None:
        self.machine = machine
        self._spelt = spelt  # whether the constants on the way are of interest
        self.things: dict[int, Thing] = {}
        self.anything = False
        self.words: list[Hashable] = []  # the constants and names that were met
        self.functions: set[int] = set()  # ids of the functions that were met on the way
        self.methods = False  # a method that turns the cycle is at hand: `torch.optim.SGD.zero_grad`
        self._seen: set[int] = set()
        self._kept: list[Value] = []  # values made on the way, so that their ids stay theirs
        self._todo: list[Value] = []
        self._add(values)
        while self._todo and not self.anything:
            self._look(self._todo.pop())

    def __bool__(self) -> bool:
        return self.anything or self.methods or bool(self.things)

    @property
    def optimizers(self) -> bool:
        """Whether there is an optimizer among them."""
        return any(isinstance(thing.what, Optimizer) for thing in self.things.values())

    @property
    def key(self) -> Hashable:
        """What was met, to tell whether it is the same as at another time."""
        return frozenset(self.things), frozenset(self.functions), tuple(self.words), self.anything, self.methods

    @property
    def subject(self) -> Value | None:
        """All of it as one value; None stands for anything."""
        found = tuple(self.things.values())
        if self.anything or not found:
            return None
        return found[0] if len(found) == 1 else Choice(found)

    def _add(self, values: Iterable[Value | None]) -> None:
        seen, spelt = self._seen, self._spelt
        for value in values:
            if value is None:
                continue
            if isinstance(value, Constant):
                if spelt:
                    self.words.append((type(value.value), value.value))
                continue
            if spelt:  # how a value that is no object is written: a name outside the project, that of a method
                if isinstance(value, Thing):
                    if value.via is not None and isinstance(value.via, MethodCaller):
                        self.words.append(value.via.name)
                elif isinstance(value, External):
                    self.words.append(value.name)
            key = id(value)
            if key not in seen and not empty(value):
                seen.add(key)
                self._kept.append(value)
                self._todo.append(value)
        if len(seen) > MOST:
            self.anything = True

    def _look(self, value: Value) -> None:
        spend(1)
        if isinstance(value, Thing):
            self._thing(value)
        elif isinstance(value, (Choice, Items, Table, Partial)):
            self._add(_parts(value))
        elif isinstance(value, ClassValue):
            for base in value.lineage():
                if isinstance(base, ClassValue):
                    self._add(member for member in base.members.values() if not isinstance(member, FunctionValue))
        elif isinstance(value, External):
            self.methods = self.methods or _method_of_torch(value.name)
        elif isinstance(value, FunctionValue):
            self.functions.add(id(value.function))
            key, store = id(value.function), self.machine.store
            own = [store.get((key, name)) for name in self.machine.names_of.get(key, ())]  # `function.held = optimizer`
            self._add([value.receiver, *own, *free_values(self.machine, value)])

    def _thing(self, thing: Thing) -> None:
        if type(thing.what) is Opaque:  # most are
            if thing.values:
                self._add(thing.values)
            if thing.parent is not None:
                self._part(thing, *thing.parent)
            return
        if isinstance(thing.what, _TURNABLE) or (isinstance(thing.what, Tensor) and thing.what.grad):
            making = self.machine.making
            if making is None or thing.serial < making or isinstance(thing.what, Optimizer):
                self.things[thing.serial] = thing
            if isinstance(thing.what, Module) and thing.serial in self.machine.keepers:
                self._attributes(thing, KEPT)
            return
        if isinstance(thing.what, (Scheduler, Super)):
            self._add([thing.what.optimizer if isinstance(thing.what, Scheduler) else thing.what.receiver])
            return
        self._add(thing.values)
        if isinstance(thing.what, Instance):
            self._attributes(thing)
            if not thing.ready:
                self._add(thing.args.all() if thing.args is not None else ())
        elif isinstance(thing.what, Opaque) and thing.parent is not None:
            self._part(thing, *thing.parent)

    def _part(self, thing: Thing, owner: Thing, attribute: str) -> None:
        """Look at something that was read from another."""
        making = self.machine.making
        if making is not None and isinstance(owner.what, Module) and owner.serial >= making:
            return
        if isinstance(owner.what, Opaque):
            if attribute.startswith("["):
                self._add([owner])  # an item of what holds something
        elif isinstance(owner.what, _TURNABLE) and not _plain(thing):
            self.things[thing.serial] = thing

    def _attributes(self, thing: Thing, natures: Natures | None = None) -> None:
        serial, store = thing.serial, self.machine.store
        values = [store.get((serial, name)) for name in self.machine.names_of.get(serial, ())]
        self._add(values if natures is None else [value for value in values if things(value, natures)])


def empty(value: Value) -> bool:
    """Whether it is seen at once that a value holds nothing."""
    if isinstance(value, Thing):
        what = value.what
        if isinstance(what, (Opaque, Pass, LossScaled, StateDict)):  # most are the first of these
            if value.values:
                return False
            parent = value.parent
            return parent is None or (isinstance(parent[0].what, Opaque) and not parent[1].startswith("["))
        return isinstance(what, Tensor) and not what.grad
    if isinstance(value, Items):
        seen, items = value.constants, value.items
        while seen < len(items) and isinstance(items[seen], Constant):
            seen += 1
        value.constants = seen
        return seen == len(items)
    return isinstance(value, (Constant, ModuleValue))


def _method_of_torch(name: str) -> bool:
    """Whether a name of torch is a method that turns the cycle when it is called with an optimizer or tensor."""
    return name.startswith("torch.") and name.rpartition(".")[2] in ("step", "zero_grad", "backward", "zero_")


def _plain(thing: Thing) -> bool:
    """Whether a part of a module or optimizer is a plain value, as a setting is."""
    while thing.parent is not None:
        owner, attribute = thing.parent
        if attribute in PLAIN or (isinstance(owner.what, (Group, Groups)) and attribute != "['params']"):
            return True
        thing = owner
    return False


def _parts(value: Value) -> Iterable[Value]:
    if isinstance(value, Choice):
        return value.options
    if isinstance(value, Items):
        return value.items
    if isinstance(value, Table):
        return value.entries.values()
    assert isinstance(value, Partial)
    return (value.func, *value.args, *value.keywords.values())


def free_values(machine: Machine, function: FunctionValue) -> list[Value]:
    """What the names in a function's text mean where it was defined: what it holds in its closure and in globals."""
    names = _names(machine, function.function)
    found: list[Value] = []
    met: set[str] = set()
    scope = function.scope
    while scope is not None and len(met) < len(names):
        bound = machine.names_of.get(scope, {})
        spend(1 + min(len(names), len(bound)) // 8)
        if len(names) <= len(bound):
            here = [name for name in names if name in bound and name not in met]
        else:
            here = sorted((name for name in bound if name in names and name not in met), key=names.__getitem__)
        for name in here:
            value = machine.store.get((scope, name))
            if isinstance(value, Lazy):
                value = value.known()
            if isinstance(value, ModuleValue):
                found += _inside(machine, value, names)
            elif value is not None:
                found.append(value)
        met.update(here)
        scope = machine.parents.get(scope)
    return found


def _inside(machine: Machine, module: ModuleValue, names: Iterable[str]) -> list[Value]:
    """The values of a module that ran, under names that a text speaks of: `state.optimizer`."""
    scope = machine.scope_of.get(module.module.path)
    if scope is None:
        return []
    bound = machine.names_of.get(scope, {})
    values = [machine.store.get((scope, name)) for name in names if name in bound]
    return [v for v in values if v is not None and not isinstance(v, (Lazy, ModuleValue, ClassValue))]


def _names(machine: Machine, function: tree.Function) -> dict[str, int]:
    """The names that a function's text speaks of, each with its number among them."""
    known = machine.names_in.get(id(function))
    if known is None:
        definition = machine.project.definition_of.get(id(function))
        if definition is not None:
            spoken = dict.fromkeys(_WORD.findall(definition[1].text))
        else:
            spoken = _spoken(function.body)
        known = {name: number for number, name in enumerate(spoken)}
        machine.names_in[id(function)] = known
    return known


def _spoken(block: Iterable[tree.Node]) -> dict[str, None]:
    """The plain names in some statements, nested functions and classes included."""
    names: dict[str, None] = {}
    todo: list[Iterable[tree.Node]] = [block]
    while todo:
        for node in tree.walk_block(todo.pop()):
            if isinstance(node, tree.Name):
                names[node.id] = None
            elif isinstance(node, (tree.Function, tree.Class)):
                todo.append(node.body)
            elif isinstance(node, tree.Lambda):
                todo.append(node.function.body)
    return names


def held(machine: Machine, *values: Value | None) -> Holdings:
    """What some values let their holder reach."""
    return Holdings(machine, [value for value in values if value is not None and not empty(value)])


def handed(machine: Machine, target: FunctionValue, args: Iterable[Value]) -> Holdings:
    """What a call of a function may touch: what it is handed, and what it holds.

    The forward pass of a module is exempt: that a module has itself does not count.
    """
    receiver = target.receiver
    if target.function.name == "__init__":  # what is being made has nothing yet
        return Holdings(machine, [*free_values(machine, target), *args], spelt=True)
    if (
        target.function.name in ("forward", "__call__")
        and isinstance(receiver, Thing)
        and isinstance(receiver.what, Module)
    ):
        names = machine.names_of.get(receiver.serial, ()) if receiver.serial in machine.keepers else ()
        own = [machine.get(receiver.serial, name) for name in names]
        other = [v for v in own if things(v, KEPT)]
        return Holdings(machine, [*free_values(machine, target), *args, *other], spelt=True)
    return Holdings(machine, [target, *args], spelt=True)


def callables(value: Value | None, deep: bool = True) -> list[Value]:
    """The functions of the project among a value's options, and in the containers that it is."""
    found: list[Value] = []
    for option in options(value):
        if isinstance(option, (FunctionValue, Partial)):
            found.append(option)
        elif deep and isinstance(option, (Items, Table)):
            for part in list(_parts(option))[:32]:
                found += callables(part, deep=False)
    return found
