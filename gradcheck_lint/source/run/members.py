"""The parameters of a model with their dotted names, from what its constructors were seen to do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from gradcheck_lint.source import limits, torch_api, tree
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source.effort import Allowance, Stop, meter, spend
from gradcheck_lint.source.layers import dims, layer_of, slots
from gradcheck_lint.source.model_tree import Key, Leaf, ModelTree
from gradcheck_lint.source.natures import Instance, Module, Opaque, Tensor, made_by
from gradcheck_lint.source.run import objects
from gradcheck_lint.source.run.machine import Machine
from gradcheck_lint.source.run.touch import python
from gradcheck_lint.source.values import (
    Choice,
    ClassValue,
    External,
    FunctionValue,
    Items,
    Table,
    Thing,
    Value,
    contents,
    options,
)

_LISTS = frozenset({"Sequential", "ModuleList", "ParameterList"})
_DICTS = frozenset({"ModuleDict", "ParameterDict"})
_QUOTED = "[]'\""
_ANY_INDEX = ("0", "7")
"""Two indices that stand for any, where the code does not show how many there are."""


class _At(NamedTuple):
    """Where the walk is: by which names, in which modules, and whether that is there on every path."""

    prefixes: tuple[str, ...]
    inside: tuple[Thing, ...]
    sure: bool
    again: bool  # what is here stands for several parts that are alike
    copy: int | None = None  # the serial number of the copy that this is in

    def below(self, name: str, thing: Thing | None = None, *, sure: bool = True, again: bool = False) -> _At:
        """One name further down; `again` for the items of a list of which it is not known how many there are."""
        steps = _ANY_INDEX if again else (name,)
        prefixes = tuple(dict.fromkeys(f"{p}{step}." for p in self.prefixes for step in steps))[:8]
        inside = self.inside if thing is None else (*self.inside, thing)
        return _At(prefixes, inside, self.sure and sure, self.again or again, self.copy)

    def key(self, serial: int, name: str) -> Key:
        """What tells a parameter of a thing from others: in a copy it is another one than in what was copied."""
        return (serial, name) if self.copy is None else (self.copy, f"{serial}.{name}")

    def names(self, name: str) -> tuple[str, ...]:
        return tuple(f"{prefix}{name}" for prefix in self.prefixes)


def model_tree(machine: Machine, model: Thing) -> ModelTree:
    """The parameters of a model as it is now; those of a part that was read from another one are found there."""
    whole, path = model.core, ""
    while whole.parent is not None and not isinstance(whole.cls, (ClassValue, External)):
        path = f"{whole.parent[1].strip(_QUOTED)}.{path}"
        whole = whole.parent[0].core
    if not path or not isinstance(whole.what, Module):
        return ModelTree(model, tuple(_Walk(machine).leaves(model)))
    found = [
        leaf
        for leaf in _Walk(machine).leaves(whole)
        if leaf.name.startswith(path) or (leaf.open and path.startswith(leaf.name))
    ]
    names = [tuple(name.removeprefix(path) for name in leaf.names) for leaf in found]
    return ModelTree(model, tuple(leaf._replace(names=n) for leaf, n in zip(found, names, strict=True)))


def appended(machine: Machine, container: Thing, values: Iterable[Value]) -> None:
    """Modules are put at the end of a container of torch."""
    looping = machine.looping > machine.births.get(container.serial, (0, 0))[1]
    for value in values:
        names = container.names or {}
        name = next((n for n in names if n[0] == "+" and machine.get(container.serial, n) is value), f"+{len(names)}")
        machine.set(container.serial, name, value)
        if container.names is None:
            container.names = {}
        container.names[name] = machine.depth > machine.births.get(container.serial, (0, 0))[0]
    if looping:
        container.repeats = True


class _Walk:
    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.met: set[Key] = set()
        self.path: list[Thing] = []

    def leaves(self, model: Thing) -> Iterator[Leaf]:
        for leaf in self.module(model, _At(("",), (), True, False)):
            spend(2)
            if leaf.key not in self.met:
                self.met.add(leaf.key)
                yield leaf

    def module(self, thing: Thing, at: _At) -> Iterator[Leaf]:
        """The parameters of a module and of all in it, its own ones first."""
        at = at._replace(inside=(*at.inside, thing))
        if len(self.path) > limits.DEPTH or len(self.met) > limits.ITEMS:
            yield self.rest(thing, at)
            return
        if thing.wraps is not None:
            yield from self.wrapped(thing, thing.wraps, at)
            return
        original = thing
        while original.copy_of is not None:
            original = original.copy_of
        if original is not thing and at.copy is None:
            at = at._replace(copy=thing.serial)
        if any(thing is above for above in self.path):
            yield self.rest(thing, at)
            return
        self.path.append(thing)
        layer = layer_of(original)
        if layer in _LISTS:
            yield from self.listed(original, at)
        elif layer in _DICTS:
            yield from self.keyed(original, at)
        elif isinstance(original.cls, ClassValue) and isinstance(original.what, Module):
            yield from self.written(original, at)
        elif layer:
            yield from self.layer(original, layer, at)
        else:
            yield self.rest(thing, at)
        self.path.pop()

    def wrapped(self, thing: Thing, content: Thing, at: _At) -> Iterator[Leaf]:
        """A wrapper may put a name of its own before those of what it wraps."""
        call = thing.place.node if thing.place is not None else None
        name = tree.last_name(call.func) if isinstance(call, tree.Call) else ""
        prefixes = _PREFIXED.get(name, ("", "module.", "_orig_mod."))
        found = tuple(f"{p}{more}" for p in at.prefixes for more in prefixes)[:8]
        yield from self.module(content, at._replace(prefixes=found))

    def rest(self, thing: Thing, at: _At) -> Leaf:
        """Whatever else there may be in a module."""
        names = tuple(dict.fromkeys(at.prefixes))
        return Leaf(names, None, (thing.serial, f"{names[0]}*"), at.inside, sure=False, open=True)

    def written(self, thing: Thing, at: _At) -> Iterator[Leaf]:
        """A module of a class of the project has what its methods have given it."""
        cls = thing.cls
        assert isinstance(cls, ClassValue)
        put = thing.names or {}
        made: Thing | None = thing
        seen = thing.serial in self.machine.births and thing.serial not in self.machine.partial
        if cls.member("__init__") is not None and not seen:
            made = _twin(self.machine, thing)
        names = {**((made.names or {}) if made is not None else {}), **put}
        if made is None or thing.open or made.open or self.machine.grown > thing.serial or not _plain_module(cls):
            yield self.rest(thing, at)
        values = {
            name: self.machine.get((thing if name in put or made is None else made).serial, name)
            for name in names
            if name[0] not in "[."
        }
        for name, value in values.items():
            yield from self.own(thing, name, value, names[name], at)
        for name, value in values.items():
            if value is None:
                continue
            for option in options(value):
                sure = not names[name] and option is value
                if isinstance(option, Thing) and isinstance(option.what, Module):
                    yield from self.module(option, at.below(name, sure=sure))
                elif isinstance(option, Thing) and self.may_be_module(option, cls, name):
                    yield self.rest(option, at.below(name, sure=False))

    def own(self, thing: Thing, name: str, value: Value | None, maybe: bool, at: _At) -> Iterator[Leaf]:
        """The parameters that an attribute of a module is."""
        for option in options(value):
            if isinstance(option, Thing):
                found = self.parameter(option, at.names(name), at)
                if found is not None:
                    yield found._replace(sure=found.sure and not maybe and option is value)

    def parameter(self, value: Thing, names: tuple[str, ...], at: _At) -> Leaf | None:
        """The parameter that a value is, if it is one: made as such, or read off a layer."""
        if isinstance(value.what, Tensor):
            if made_by(value) != "Parameter":
                return None
            grad = value.what.grad
            return Leaf(names, self.ndim(value), at.key(value.serial, ""), at.inside, at.sure, grad=grad)
        if isinstance(value.what, Opaque) and value.parent is not None:
            above, attr = self.resolved(value.parent[0]), value.parent[1]
            for slot in slots(layer_of(above), above.args) or ():
                if slot.name == attr:
                    return Leaf(names, slot.ndim, at.key(above.serial, attr), at.inside, at.sure)
        return None

    def resolved(self, thing: Thing) -> Thing:
        """The module that was put into a container of torch, for one that was read from it by its index."""
        if thing.parent is None or not thing.parent[1].startswith("["):
            return thing
        above = self.resolved(thing.parent[0])
        args, index = above.args, thing.parent[1].strip(_QUOTED)
        if layer_of(above) not in _LISTS | _DICTS or args is None or args.open or above.open or above.names:
            return thing
        first = args.positional[0] if args.positional else None
        given: Value | None = None
        if isinstance(first, Table) and first.complete:
            given = first.entries.get(index)
        elif index.isdigit():
            values = first.items if isinstance(first, Items) and first.complete else args.positional
            given = values[int(index)] if int(index) < len(values) else None
        return given if isinstance(given, Thing) and isinstance(given.what, Module) else thing

    def layer(self, thing: Thing, layer: str, at: _At) -> Iterator[Leaf]:
        """A layer of torch has the parameters that all of its kind have, but for those that were exchanged."""
        found = slots(layer, thing.args)
        if thing.open or found is None or self.machine.grown > thing.serial:
            yield self.rest(thing, at)
            return
        put = thing.names or {}
        for slot in found:
            names, key = at.names(slot.name), at.key(thing.serial, slot.name)
            leaf: Leaf | None = Leaf(names, slot.ndim, key, at.inside, at.sure)
            if slot.name in put:
                value = self.machine.get(thing.serial, slot.name)
                sole = value if isinstance(value, Thing) and not put[slot.name] else None
                known = self.parameter(sole, names, at) if sole is not None else None
                leaf = known if known is not None else leaf._replace(sure=False, ndim=None) if leaf else None
            if leaf is not None:
                yield leaf
        for name in put:
            if name not in {slot.name for slot in found}:
                value = self.machine.get(thing.serial, name)
                for option in options(value):
                    if isinstance(option, Thing) and isinstance(option.what, (Module, Opaque)):
                        yield self.rest(option, at.below(name, sure=False))

    def listed(self, thing: Thing, at: _At) -> Iterator[Leaf]:
        """The items of a Sequential, a ModuleList or a ParameterList."""
        args = thing.args
        if args is None or thing.open or self.machine.grown > thing.serial:
            yield self.rest(thing, at)
            return
        values: list[Value] = []
        again, strange = thing.repeats, False
        for value in args.positional:
            for option in (value, *(value.values if isinstance(value, Thing) and args.open else ())):
                if isinstance(option, Items):
                    values += option.items
                    again, strange = again or not option.complete, strange or option.strange
                elif isinstance(option, Table):
                    yield from self.keyed(thing, at)
                    return
                elif option is not value or not args.open:
                    values.append(option)
        again = again or args.open
        put = {name: maybe for name, maybe in (thing.names or {}).items() if name[0] == "+"}
        added = [self.machine.get(thing.serial, name) for name in put]
        again = again or any(put.values())
        for index, value in enumerate([*values, *(v for v in added if v is not None)]):
            yield from self.item(value, str(index), at, again)
        if strange or (args.open and not values):
            yield self.rest(thing, at)

    def keyed(self, thing: Thing, at: _At) -> Iterator[Leaf]:
        """The entries of a ModuleDict, or of a Sequential that is made of a dictionary."""
        args = thing.args
        given = args.positional[0] if args is not None and args.positional else None
        if args is None or thing.open or args.open or self.machine.grown > thing.serial:
            yield self.rest(thing, at)
            return
        if given is not None and not (isinstance(given, Table) and given.complete and not given.maybe):
            yield self.rest(thing, at)
            return
        for key, value in given.entries.items() if isinstance(given, Table) else ():
            yield from self.item(value, str(key), at, False)
        put = thing.names or {}
        for name in put:
            value_put = self.machine.get(thing.serial, name)
            if value_put is not None:
                yield from self.item(value_put, name.strip("[]"), at, False)

    def item(self, value: Value, name: str, at: _At, again: bool) -> Iterator[Leaf]:
        for option in options(value):
            sure = option is value
            if not isinstance(option, Thing):
                if isinstance(option, (Items, Table, Choice)) or not sure:
                    yield self.rest(at.inside[-1], at.below(name, sure=False, again=again))
                continue
            if isinstance(option.what, Module):
                yield from self.module(option, at.below(name, sure=sure, again=again or option.summary))
                continue
            names = at.below(name, again=again).prefixes
            leaf = self.parameter(option, tuple(n.rstrip(".") for n in names), at._replace(again=at.again or again))
            if leaf is not None:
                yield leaf._replace(sure=leaf.sure and sure)
            elif isinstance(option.what, (Opaque, Tensor)):
                yield self.rest(option, at.below(name, sure=False, again=again))

    def ndim(self, parameter: Thing) -> int | None:
        """How many dimensions a new parameter has, by the call that made its data."""
        data = parameter.args.get(0, "data") if parameter.args is not None else None
        if isinstance(data, Thing) and data.serial in self.machine.dims:
            return self.machine.dims[data.serial]
        return dims(data)

    def may_be_module(self, value: Thing, cls: ClassValue, name: str) -> bool:
        """Whether an attribute of which little is known may be a part of a module."""
        if isinstance(value.what, Instance):
            return isinstance(value.cls, ClassValue) and not value.cls.closed
        if not isinstance(value.what, Opaque):
            return False
        if value.origin.startswith("torch.nn."):
            return True
        if value.place is not None and isinstance(value.place.node, tree.Call) and not python(value.origin):
            return True  # what some function gives
        if value.place is not None and isinstance(value.place.node, (tree.Operation, tree.Comprehension)):
            return False  # a number that was computed
        return any(_used_as_module(base, name) for base in cls.lineage() if isinstance(base, ClassValue))


def _twin(machine: Machine, thing: Thing) -> Thing | None:
    """Another module that is made as one was whose constructor nobody asked for; None if that cannot be followed.

    To run the constructor of the module itself now would exchange the parts that were read from it. What this costs is
    taken from nobody's budget, and what it causes is past.
    """
    if thing.serial in machine.twins:
        return machine.twins[thing.serial]
    machine.twins[thing.serial] = None  # while it is made
    assert isinstance(thing.cls, ClassValue)
    made = objects.new_instance(thing.cls, thing.place)
    made.args, made.label = thing.args, thing.label
    saved = (machine.sequence, machine.steps, machine.budget, machine.followed, machine.frames, machine.relevant)
    around = (machine.depth, machine.looping, machine.unrolled, machine.trains, machine.undo)
    machine.sequence, machine.steps, machine.followed, machine.frames = tl.Sequence(), 0, {}, []
    machine.budget, machine.relevant = limits.BUDGET // 4, _all
    machine.depth, machine.looping, machine.unrolled, machine.trains, machine.undo = 0, 0, 1, False, []
    whole = True
    with Allowance(min(meter.left // 2, limits.ENTRY_WORK // 4)) as allowance:
        try:
            machine.prepare(made, None)
        except Stop:
            whole = False
    machine.purse.pay(allowance.used)
    machine.depth, machine.looping, machine.unrolled, machine.trains, machine.undo = around
    machine.sequence, machine.steps, machine.budget, machine.followed, machine.frames, machine.relevant = saved
    for value in contents(Items(tree.Container.TUPLE, thing.args.all() if thing.args is not None else [])):
        if isinstance(value, Thing) and made in value.owners:
            value.owners = tuple(dict.fromkeys(thing if owner is made else owner for owner in value.owners))
    if whole and made.serial in machine.births and made.serial not in machine.partial:
        machine.twins[thing.serial] = made
    return machine.twins[thing.serial]


def _all(function: tree.Function) -> bool:
    return True


_PREFIXED = {
    "DataParallel": ("module.",),
    "DistributedDataParallel": ("module.",),
    "DDP": ("module.",),
    "compile": ("_orig_mod.",),
    "convert_sync_batchnorm": ("",),
}
"""What wrappers put before the names of what they wrap."""


def _plain_module(cls: ClassValue) -> bool:
    """Whether a class gets its parts from code of the project alone, and registers them as torch does."""
    if any(cls.member(name) is not None for name in ("__setattr__", "named_parameters", "parameters", "named_modules")):
        return False
    return cls.closed or all(
        isinstance(base, ClassValue) or (isinstance(base, External) and base.name in _EMPTY_BASES)
        for base in cls.lineage()
    )


_EMPTY_BASES = frozenset(
    {
        "builtins.object", "torch.nn.Module", "abc.ABC", "typing.Generic", "typing.Protocol",
        "lightning.pytorch.LightningModule",
    }
)  # fmt: skip


def _used_as_module(cls: ClassValue, name: str) -> bool:
    """Whether methods of a class do with an attribute what can be done with a module: call it, go over it, pass it."""
    functions = [member.function for member in cls.members.values() if isinstance(member, FunctionValue)]
    return any(_as_module(node, name) for function in functions for node in tree.walk_block(function.body))


def _as_module(node: tree.Node, name: str) -> bool:
    """Whether a node calls what is read from an attribute, goes over it, or passes it on."""
    if isinstance(node, tree.Call):
        func = node.func
        called = _is(func, name) or (isinstance(func, tree.Attribute) and _is(func.value, name))
        return called or (_takes_modules(func) and any(_is(a.value, name) for a in node.args))
    if isinstance(node, tree.For):
        return _is(node.iter, name)
    if isinstance(node, (tree.Subscript, tree.Starred)):
        return _is(node.value, name)
    if isinstance(node, tree.Assign):
        return node.value is not None and _is(node.value, name)
    if isinstance(node, tree.Comprehension):
        return any(_is(iterable, name) for _, iterable, _ in node.clauses)
    return isinstance(node, (tree.Return, tree.Yield)) and any(_is(part, name) for part in node.children())


def _is(node: tree.Node, name: str) -> bool:
    return isinstance(node, tree.Attribute) and node.attr == name and isinstance(node.value, tree.Name)


def _takes_modules(func: tree.Expression) -> bool:
    """Whether what is called may run a module that it is given: functions of torch and methods of tensors do not."""
    name = tree.dotted(func)
    if name.startswith(("torch.", "F.", "nn.", "math.", "np.", "self.log")):
        return False
    if isinstance(func, tree.Attribute) and func.attr in _OF_TENSORS:
        return False
    return name not in ("print", "len", "range", "int", "float", "str", "bool", "min", "max", "round", "abs")


_OF_TENSORS = torch_api.SMOOTH | frozenset({"size", "dim", "type_as", "new_zeros", "new_ones", "fill_", "masked_fill"})
