"""How things come to be, get their names and roles, and stand for lists and dicts of others."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from gradcheck_lint.source import frameworks, limits, torch_api, tree
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source.amounts import Amount, Number, Rounds
from gradcheck_lint.source.deps import cut_off, depends, united
from gradcheck_lint.source.effort import Stop, spend
from gradcheck_lint.source.joins import join
from gradcheck_lint.source.natures import (
    Argument,
    Instance,
    Module,
    Opaque,
    Optimizer,
    Parameters,
    Scaler,
    Scheduler,
    Settings,
    Tensor,
    unordered,
)
from gradcheck_lint.source.place import Place
from gradcheck_lint.source.run.holdings import KEPT
from gradcheck_lint.source.run.machine import Machine
from gradcheck_lint.source.tree import Container
from gradcheck_lint.source.values import (
    ClassValue,
    Constant,
    External,
    FunctionValue,
    Items,
    Nature,
    Table,
    Thing,
    Value,
    limited,
    only,
    things,
)


def instance(machine: Machine, cls: ClassValue) -> tuple[Thing, tl.Opening]:
    """An instance of a class made with unknown arguments, and the events of making it.

    They are the same whoever asks first: an entry point at its start, or `spotted` in the middle of one.
    """
    if cls.serial not in machine.instances:
        with machine.passing.lasting():
            _make(machine, cls)
    return machine.instances[cls.serial]


def _make(machine: Machine, cls: ClassValue) -> None:
    thing, made = new_instance(cls, None), tl.Opening()
    saved, machine.sequence = machine.sequence, made
    undo, machine.undo = machine.undo, []
    steps, under_way = machine.steps, (machine.frames, machine.depth, machine.looping, machine.unrolled)
    machine.frames, machine.depth, machine.looping, machine.unrolled = [], 0, 0, 1
    machine.instances[cls.serial] = (thing, made)
    init = cls.member("__init__")
    lines = machine.lines(init.function) if isinstance(init, FunctionValue) else 0
    with machine.purse.allowance(limits.ENTRY_LINE * lines) as allowance:
        try:
            machine.prepare(thing, None)
        except Stop:  # its methods are looked at all the same, with what is known of it up to there
            machine.unmade.add(cls.serial)
            tl.lead_on(made)
            machine.unwind(0)
            machine.steps = steps
        finally:
            machine.frames, machine.depth, machine.looping, machine.unrolled = under_way
            machine.sequence, machine.undo = saved, undo
    machine.purse.pay(allowance.used)


def lengthen(parameters: Thing, more: Value) -> None:
    """A list of parameters gets more in place, by `+=`, `extend` or `append`."""
    first = Thing(parameters.what, "", parameters.place, deps=parameters.deps)
    mixed = unordered(first) or unordered(more)
    parameters.what = Parameters(parts=[first, more], kind=Container.LIST, unordered=mixed)
    parameters.deps = united(parameters.deps, depends(more))


def added(machine: Machine, old: Items, value: Items, node: tree.Node) -> Items:
    complete = old.complete and value.complete and not (isinstance(node, tree.Augment) and machine.looping)
    mixed = unordered(old) or unordered(value)
    spend(min(len(old.items) + len(value.items), 2 * limits.ITEMS) // 8)
    items, whole = limited([*old.items[: limits.ITEMS], *value.items[: limits.ITEMS]])
    whole = whole and len(items) == len(old.items) + len(value.items)
    made = Items(old.kind, items, complete and whole, old.place, unordered=mixed)
    made.strange = old.strange or value.strange
    made.sifted = old.sifted
    return made


def one_of(machine: Machine, value: Value, target: tree.Node) -> Value:
    """One of the objects that a value stands for; asked again, it is another one."""
    found = list(things(value))
    if not found:
        return value
    thing = only(value)
    alike = thing is not None and isinstance(thing.what, _KNOWN)
    return Thing(
        type(thing.what)() if thing is not None and alike else Opaque(),
        "",
        machine.place(target),
        deps=depends(value),
        certain=False,
    )


def name_thing(value: Value, name: str) -> None:
    """Call things by the first name that the code gives them."""
    for thing in things(value):
        if isinstance(thing.what, Opaque) and not thing.summary:
            if not thing.label or thing.parent is None:
                thing.label = name
            guess(thing)
        elif not thing.label or (thing.place is not None and not thing.bound):
            thing.label = name
            thing.bound = True


def guess(thing: Thing) -> None:
    """Take the nature of an opaque thing from its name."""
    if not thing.label or not isinstance(thing.what, Opaque):
        return
    kind = _named(thing.label)
    if kind is None:
        return
    if isinstance(thing.via, (Amount, Rounds, Number)) or isinstance(thing.what, Settings):
        return
    origin = thing.root.origin
    if frameworks.keeps_the_cycle(origin) or origin.partition(".")[0] in _SETTINGS:
        return
    thing.what, thing.certain = kind(), False


@lru_cache(4096)
def _named(label: str) -> Callable[[], Nature] | None:
    """What something is that is called so; the same few names come again and again, and most say nothing."""
    if torch_api.SCALER_NAME.search(label):
        return Scaler
    if torch_api.SCHEDULER_NAME.search(label):
        return Scheduler
    return Optimizer if torch_api.OPTIMIZER_NAME.search(label) else None


_SETTINGS = frozenset("argparse configparser json yaml toml omegaconf absl os math time datetime random numpy".split())
"""Packages whose functions give settings and numbers, whatever these are called."""

_OWN = re.compile(
    r"^(?:_.*|optimi[sz]er\w*|optim|opts?|base_\w*|inner\w*|param_groups|params|state\w*|defaults|steps?|zero_grad"
    r"|add_param_group|load_state_dict|state_dict|lr|lrs|last_epoch|get_\w*|backward|rate|schedulers?|scale\w*|update"
    r"|unscale_|is_enabled|closure|train|eval|module|consolidate_state_dict|grad\w*|loss_scale\w*|current_\w*|num_\w*)$"
)
"""What optimizers, schedulers and scalers have, and those that people write around them."""


def doubt(thing: Thing, attr: str) -> None:
    """An attribute is read, and not called: what is taken for an optimizer by its name alone has no such thing."""
    if isinstance(thing.what, (Optimizer, Scheduler)) and not thing.certain and thing.cls is None:
        if isinstance(thing.via, Argument) and not _OWN.match(attr):
            thing.what = Settings()


def child(machine: Machine, base: Thing, attr: str, what: Nature, node: tree.Node) -> Thing:
    """The part of a thing that is read by an attribute or index: the same one each time."""
    key = (base.serial, f".{attr}")
    found = machine.store.get(key)
    if isinstance(found, Thing):
        return found
    deps = depends(base)
    if attr in _NO_GRAPH:
        deps = cut_off(deps)
    thing = Thing(
        what,
        attr.strip("[]'\""),
        machine.place(node),
        deps=deps,
        parent=(base, attr),
        summary=base.summary,
        certain=False,
    )
    guess(thing)
    machine.store[key] = thing  # not undone: the identity is the same on every path
    machine.passing.read(key)
    if isinstance(thing.what, KEPT):
        machine.keepers.add(base.serial)
    machine.names_of.setdefault(base.serial, {})[key[1]] = None
    return thing


def joined(machine: Machine, kind: Container, parts: list[Value], node: tree.Node, *, filtered: bool = False) -> Thing:
    """The elements of several iterables of parameters, one after the other."""
    mixed = kind is Container.SET or any(unordered(part) for part in parts)
    made = Parameters(parts=parts, kind=kind, filtered=filtered, unordered=mixed)
    return Thing(made, "", machine.place(node), deps=depends(*parts))


def table(machine: Machine, entries: dict[object, Value], complete: bool, node: tree.Node) -> Table:
    made = Table(entries, complete, machine.place(node))
    made.depth = machine.depth
    return made


def same_state(machine: Machine, state: Thing, node: tree.Expression) -> Thing:
    """Another dict of the tensors that a state dict holds."""
    made = state.copy(machine.place(node))
    made.copy_of = state.copy_of  # the tensors are the same
    return made


def unknown_parameter(parameter: tree.Parameter) -> Thing:
    thing = Thing(Opaque(), parameter.name, certain=False, via=Argument())
    hint = tree.last_name(parameter.annotation)
    if hint in torch_api.FOREIGN_OPTIMIZERS or hint == "Optimizer":
        thing.what = Optimizer()
    elif hint == "Module":
        thing.what = Module()
    elif hint == "GradScaler":
        thing.what = Scaler()
    else:
        guess(thing)
    return thing


def new_instance(cls: ClassValue, place: Place | None) -> Thing:
    what: Nature = Instance()
    if cls.derives("torch.optim.Optimizer", "Optimizer") or any(
        isinstance(b, External) and torch_api.nature_of_class(b.name) is Optimizer for b in cls.lineage()
    ):
        what = Optimizer()
    elif cls.derives("torch.nn.Module", "LightningModule") or any(
        isinstance(b, External) and torch_api.nature_of_class(b.name) is Module for b in cls.lineage()
    ):
        what = Module()
    elif any(isinstance(b, External) and torch_api.nature_of_class(b.name) is Scheduler for b in cls.lineage()):
        what = Scheduler()
    return Thing(what, "", place, cls=cls)


def found_one(table: Table) -> Value:
    """The only value of a dict."""
    return next(iter(table.entries.values()))


def take(entries: dict[Any, Value], more: dict[Any, Value]) -> bool:
    """Put entries into a table that is made of others; False if these are too many to take all."""
    spend(min(len(more), limits.ITEMS) // 8)
    if len(entries) + len(more) <= limits.ITEMS:
        entries.update(more)
        return True
    for key, value in more.items():
        if len(entries) < limits.ITEMS or key in entries:
            entries[key] = value
    return False


_NO_GRAPH = frozenset({"data", "shape", "dtype", "device", "grad", "ndim", "is_leaf", "requires_grad"})


_KNOWN = (Optimizer, Module, Scaler, Scheduler, Tensor)


HELD = (*_KNOWN, Parameters)


def is_none(value: Value) -> bool:
    return isinstance(value, Constant) and value.value is None


def kind_of(value: Value) -> Container | None:
    """A list, tuple, set or generator; None for what is none of them."""
    if isinstance(value, Items):
        return value.kind
    return value.what.kind if isinstance(value, Thing) and isinstance(value.what, Parameters) else None


def listed(value: Value) -> bool:
    return kind_of(value) in (Container.LIST, Container.TUPLE)


def join_all(values: list[Value]) -> Value:
    """The value after as many paths meet."""
    result = values[0]
    for value in values[1:]:
        result = join(result, value)
    return result
