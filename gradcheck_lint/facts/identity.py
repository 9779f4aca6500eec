"""Whether model and optimizer still hold the same tensors after one of them was replaced."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from gradcheck_lint.facts import repair
from gradcheck_lint.facts.order import after, before
from gradcheck_lint.source import torch_api, tree
from gradcheck_lint.source.events import (
    AddGroup,
    Assign,
    Build,
    Freeze,
    Grow,
    Put,
    Rebind,
    Register,
    SetAttribute,
    SetItem,
    Step,
    Unknown,
)
from gradcheck_lint.source.holding import Held, held_by
from gradcheck_lint.source.natures import (
    Data,
    Group,
    GroupParams,
    Groups,
    Module,
    Opaque,
    Optimizer,
    Parameters,
    Tensor,
    element_of,
)
from gradcheck_lint.source.place import Place
from gradcheck_lint.source.values import (
    ClassValue,
    Constant,
    External,
    FunctionValue,
    Items,
    Table,
    Thing,
    Value,
    contents,
    only,
    options,
    things,
)

if TYPE_CHECKING:
    from gradcheck_lint.source.events import Event
    from gradcheck_lint.source.timeline import Timeline


class Stale(NamedTuple):
    """An optimizer that steps although something that it holds was replaced."""

    optimizer: Thing
    build: Build
    step: Step
    between: tuple[Event, ...]  # what runs after the replacement, up to the step
    sure: bool = True  # no unseen code on the way may have told the optimizer

    @property
    def name(self) -> str:
        """What the code calls the optimizer where it steps."""
        return name_of(self.step)


def name_of(step: Step) -> str:
    """What the code calls the optimizer that makes a step."""
    call = step.place.node
    assert isinstance(call, tree.Call)
    if step.scaler is not None and call.args:
        return repair.text(Place(step.place.chunk, call.args[0].value))
    assert isinstance(call.func, tree.Attribute)
    return repair.text(Place(step.place.chunk, call.func.value))


def stale(timeline: Timeline, event: Event, holds: Callable[[Held], bool], *, in_doubt: bool = False) -> Stale | None:
    """The optimizer that was built before `event`, holds what that replaces, and makes a step after it.

    None if there is none, or if something on the way to the step has told it of the replacement: another optimizer is
    built, a group is added or written; or if what came in is replaced in its turn. None as well where unknown code is
    given the optimizer, unless it is asked for `in_doubt`.
    """
    stepped = {o for e in timeline.events(Step) for o in things(e.subject, Optimizer)}
    if timeline.cut or not any(not o.summary and holds(held_by(o)) for o in stepped):
        return None
    built = {o: e for e in before(timeline, event) if isinstance(e, Build) for o in things(e.subject, Optimizer)}
    held = {o: e for o, e in built.items() if not o.summary and holds(held_by(o))}
    if not held or _put_into_groups(timeline, event):
        return None
    between: list[Event] = []
    told: set[Thing] = set()  # optimizers that unknown code may have told
    for later in after(timeline, event):
        for optimizer, build in held.items():
            if isinstance(later, Step) and later.concerns(optimizer):
                return Stale(optimizer, build, later, tuple(between), optimizer not in told)
            if isinstance(later, (Unknown, AddGroup)) and later.concerns(optimizer):
                if isinstance(later, AddGroup) or not in_doubt:
                    return None
                told.add(optimizer)
        if isinstance(later, Build) and things(later.subject, Optimizer):
            return None
        if later is not event and isinstance(later, SetItem) and any(_groups(t) for t in things(later.subject)):
            return None
        if later.place.node is not event.place.node and _same_target(event, later):
            return None
        between.append(later)
    return None


def _put_into_groups(timeline: Timeline, event: Event) -> bool:
    """Whether the very value of an event is written into the groups of an optimizer too."""
    new = set(things(event.value)) if isinstance(event, Put) else set()
    written = [e for e in timeline.events(SetItem) if e is not event] if new else []
    return any(_groups(t) and _among(new, e.value) for e in written for t in things(e.subject))


def _among(found: set[Thing], value: Value) -> bool:
    """Whether one of some things is what a value may be, or in it."""
    return any(t in found for o in contents(value) for t in things(o))


def taken_over(event: SetItem, between: Iterable[Event], optimizers: list[Thing]) -> bool:
    """Whether something else gets to know a tensor that was put into the groups of an optimizer, before the step.

    It is read back from there, or from a dict in which it was noted on the way, and becomes an attribute, say: then the
    owner and the optimizer hold the same one again.
    """
    new = {t for o in contents(event.value) for t in things(o)}
    for later in between:
        if isinstance(later, (SetAttribute, Assign, SetItem, Register)) and later.place.node is not event.place.node:
            value = later.value
            if isinstance(later, Assign) and isinstance(later.target, tree.Name):
                continue  # a name of a function's own; what becomes of it is told by other events
            if isinstance(later, SetItem) and any(_state(t) for t in things(later.subject)):
                continue  # what the optimizer keeps for it goes along with it
            if any(t in new or _out_of(t, optimizers) for o in contents(value) for t in things(o)):
                return True
        elif isinstance(later, Grow) and later.subject is None:
            return True
    return False


def _out_of(thing: Thing, optimizers: list[Thing]) -> bool:
    """Whether a thing is, or may be, a tensor from the groups of some optimizers."""
    source = element_of(thing)
    if isinstance(source, Thing):
        return source.root in optimizers
    return thing.root in optimizers or (
        isinstance(thing.what, (Opaque, Tensor)) and any(o in thing.deps for o in optimizers)
    )


def _state(thing: Thing) -> bool:
    """Whether it is the state of an optimizer, or what that keeps for one tensor."""
    return isinstance(thing.root.what, Optimizer) and not _groups(thing)


def _groups(thing: Thing) -> bool:
    return isinstance(thing.what, (Groups, Group, GroupParams))


def _same_target(event: Event, other: Event) -> bool:
    """Whether both give a value to the same name, or to the same attribute of the same object."""
    if isinstance(event, SetAttribute) and isinstance(other, SetAttribute):
        same = any(other.concerns(t) for t in things(event.subject))
        return same and event.attr == other.attr
    if not isinstance(other, Assign) or not isinstance(event, Rebind):
        return False
    target, name = other.target, event.target
    if not isinstance(target, tree.Name) or not isinstance(name, tree.Name):
        return False
    return target.id == name.id and other.function is event.function


def assigns_its_own_way(value: Value | None) -> bool:
    """Whether a class of the project decides what becomes of an attribute that is assigned to its objects."""
    return any(isinstance(t.core.cls, ClassValue) and t.core.cls.member("__setattr__") for t in things(value))


def one_name(timeline: Timeline, event: Rebind, thing: Thing) -> bool:
    """Whether the target of `event` is the only name that the code has given to a thing so far."""
    found: set[tuple[str, object]] = set()
    for earlier in before(timeline, event):
        if isinstance(earlier, Assign) and any(option is thing for option in options(earlier.value)):
            found.add(_name(earlier))
    return found == {_name(event)}


def _name(event: Assign | Rebind) -> tuple[str, object]:
    """A name with the function that it belongs to, or an attribute."""
    target = event.target
    return tree.last_name(target), event.function if isinstance(target, tree.Name) else None


def fresh(value: Value | None) -> bool:
    """Whether the value is a tensor to be trained that was made just now."""
    return all(
        isinstance(o, Thing) and isinstance(o.what, Tensor) and o.what.made_by != "" and o.what.grad is True
        for o in options(value)
    )


def frozen(timeline: Timeline, thing: Thing) -> bool:
    """Whether `requires_grad` of a thing is ever set to something else than True."""
    for event in timeline.events(Freeze):
        reached = event.thing is thing or any(thing.inside(t) for t in things(event.subject))
        if reached and event.value is not True:
            return True
    return False


def inside(thing: Thing, held: Held) -> bool:
    """Whether a thing is, or was read from, a module that the optimizer was given whole."""
    return any(thing.inside(module) for module in held.modules)


_WEIGHTED = re.compile(
    r"^(Linear|Bilinear|LazyLinear|Conv\w+|LazyConv\w+|Embedding\w*|RNN\w*|LSTM\w*|GRU\w*|MultiheadAttention"
    r"|Transformer\w*|BatchNorm\w+|LayerNorm|GroupNorm|RMSNorm|PReLU)$"
)


def weighted(module: Thing) -> bool:
    """Whether a module surely has weights to train: a layer that has, one from elsewhere that is a whole model, a
    container with such a layer, or a class of the project whose `__init__` makes one."""
    if isinstance(module.cls, ClassValue):
        init = module.cls.member("__init__")
        if not isinstance(init, FunctionValue):
            return False
        return _makes_weights(init.function)
    if isinstance(module.what, Module) and module.what.pretrained:
        return True
    if isinstance(module.cls, External):
        if _WEIGHTED.match(module.cls.name.rpartition(".")[2]):
            return True
        args = module.args
        return args is not None and any(weighted(t) for value in args.all() for t in _layers(value))
    copied = module.copy_of
    return isinstance(copied, Thing) and weighted(copied)


def only_parameters(module: Thing) -> bool:
    """Whether a module of the project has parameters to train that it makes itself, and no layers: weights of losses, a
    temperature. Nobody makes such a one to leave it as it is."""
    init = module.cls.member("__init__") if isinstance(module.cls, ClassValue) else None
    if not isinstance(init, FunctionValue) or not _makes_weights(init.function):
        return False
    calls = (node for node in tree.walk_block(init.function.body) if isinstance(node, tree.Call))
    return not any(_WEIGHTED.match(tree.last_name(call.func)) for call in calls)


def _makes_weights(init: tree.Function) -> bool:
    """Whether a constructor makes layers or parameters that it does not freeze, for all or by what it is told."""
    nodes = list(tree.walk_block(init.body))
    walked = {  # `p` → what it is a parameter of, in `for p in self.base.parameters()`
        part.id: tree.dotted(node.iter.func.value)
        for node in nodes
        if isinstance(node, tree.For)
        and isinstance(node.iter, tree.Call)
        and isinstance(node.iter.func, tree.Attribute)
        for part in node.target.walk()
        if isinstance(part, tree.Name)
    }
    flags = [n for n in nodes if isinstance(n, tree.Attribute) and n.attr in ("requires_grad", "requires_grad_")]
    frozen = {walked.get(name, name) for name in (tree.dotted(flag.value) for flag in flags)}
    if frozen & {"", *(p.name for p in init.parameters[:1])}:
        return False
    made = {
        id(part): tree.dotted(target)
        for node in nodes
        if isinstance(node, tree.Assign) and node.value is not None
        for target in node.targets
        for part in node.value.walk()
    }
    calls = [n for n in nodes if isinstance(n, tree.Call) and not _frozen_at_birth(n) and made.get(id(n)) not in frozen]
    return any(_WEIGHTED.match(name) or name == "Parameter" for name in (tree.last_name(c.func) for c in calls))


def _frozen_at_birth(call: tree.Call) -> bool:
    """Whether `Parameter(..., requires_grad=...)` may make one that is not trained."""
    given = [a.value for n, a in enumerate(call.args) if a.keyword == "requires_grad" or (n == 1 and a.keyword is None)]
    if tree.last_name(call.func) != "Parameter":
        return False
    return any(not (isinstance(value, tree.Constant) and value.value is True) for value in given)


def contained(module: Thing) -> set[Thing]:
    """The modules that a module was built with, at whatever depth: the layers of a Sequential, what a wrapper wraps."""
    found: set[Thing] = set()
    todo = [module]
    while todo:
        thing = todo.pop()
        if thing not in found:
            found.add(thing)
            args = thing.args if thing.copy_of is None else None  # a copy has layers of its own
            todo += [t for value in args.all() for t in _layers(value)] if args is not None else []
            todo += [thing.wraps] if thing.wraps is not None else []
    return found


def _layers(value: Value) -> list[Thing]:
    """The modules in an argument: itself, or those of a list, or those of a dict."""
    found = things(value, Module)
    for option in options(value):
        inner = (
            option.items if isinstance(option, Items) else option.entries.values() if isinstance(option, Table) else ()
        )
        found += [t for item in inner for t in _layers(item)]
    return found


def steps_on(timeline: Timeline, event: Event, module: Thing) -> tuple[Step, list[Event]] | None:
    """The first step after `event` of an optimizer that holds (a part of) the module, and all that comes after it.

    None if there is none before the module is built anew.
    """
    if not any(_on(step, module) for step in timeline.events(Step)):
        return None
    later = after(timeline, event)
    for index, step in enumerate(later):
        if isinstance(step, Build) and step.concerns(module):
            return None
        if isinstance(step, Step) and _on(step, module):
            return step, later[index + 1 :]
    return None


def _on(step: Event, module: Thing) -> bool:
    """Whether a step is one of an optimizer that holds (a part of) the module."""
    return any(_holds(held_by(o), module) for o in things(step.subject, Optimizer))


def _holds(held: Held, module: Thing) -> bool:
    return any(m.inside(module) or module.inside(m) for m in held.modules)


_UNTIED = re.compile(r"\btie_word_embeddings\b[\"']?\]?\s*[=:]\s*False\b")


def untied(timeline: Timeline) -> bool:
    """Whether the module says that a model of `transformers` has a head of its own, not the embedding once more."""
    return _UNTIED.search(timeline.home.text) is not None


def keeps_state(optimizer: Thing) -> bool:
    """Whether an optimizer surely keeps something for each parameter from one step to the next."""
    name = optimizer.class_name.rpartition(".")[2]
    args = optimizer.args
    if name not in torch_api.OPTIMIZERS or args is None:
        return False
    if name != "SGD" and name != "RMSprop":
        return True
    momentum = args.get(2, "momentum") if name == "SGD" else Constant(0.9)
    return isinstance(momentum, Constant) and isinstance(momentum.value, (int, float)) and momentum.value > 0


def owner(parameter: Thing) -> Thing | None:
    """The module that a parameter was read from: `net` for `net.weight`, and for an element of `net.parameters()`."""
    thing: Thing | None = parameter
    if (
        thing is not None
        and isinstance(thing.what, (Data, Opaque))
        and thing.parent is not None
        and thing.parent[1] == "data"
    ):
        thing = thing.parent[0]
    if thing is None:
        return None
    source = element_of(thing)
    if source is not None:
        return only(source.what.of, Module) if isinstance(source.what, Parameters) else None
    if isinstance(thing.what, Opaque) and thing.parent is not None and thing.parent[1] in ("weight", "bias"):
        module = thing.parent[0]
        return module if isinstance(module.root.what, Module) else None
    return None
