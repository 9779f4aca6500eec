"""What a module consists of at some moment, and a picture of what an optimizer is handed then."""

from __future__ import annotations

import re
from collections.abc import Iterable

from gradcheck_lint.source import tree
from gradcheck_lint.source.effort import spend
from gradcheck_lint.source.events import Grow
from gradcheck_lint.source.holding import OWNERS
from gradcheck_lint.source.layers import LEARNING, layer_of
from gradcheck_lint.source.natures import Instance, Module, Opaque, Parameters, Tensor, Walk, chained, made_by
from gradcheck_lint.source.run.holdings import Holdings, held
from gradcheck_lint.source.run.machine import Machine
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
    new_serial,
    options,
    things,
)

Parts = dict[int, tuple[Thing, ...]]
"""The parts of modules, by the serial number of the module."""


def has_parameters(thing: Thing) -> bool:
    """Whether it is a layer of torch that has parameters, or a tensor that can be one."""
    if isinstance(thing.what, Tensor):
        return made_by(thing) == "Parameter"
    if isinstance(thing.cls, External):
        return isinstance(thing.what, Module) and layer_of(thing) in LEARNING
    return isinstance(thing.what, Opaque) and thing.parent is not None and thing.parent[1] in ("weight", "bias")


def module_of(thing: Thing) -> Thing | None:
    """The module whose parameters these are; the thing itself if it is no collection of parameters."""
    while isinstance(thing.what, Parameters):
        if thing.what.of is None:
            return None
        thing = thing.what.of
    return thing


def filtered(thing: Thing) -> bool:
    """Whether some parameters of the module may be left out."""
    while isinstance(thing.what, Parameters):
        if thing.what.filtered or thing.what.of is None:
            return True
        thing = thing.what.of
    return False


def noted(machine: Machine, thing: Thing, name: str | None) -> None:
    """An attribute of a module is set; None stands for one whose name is not known."""
    if name is None:
        thing.open = True
        changed(thing)
    else:
        if thing.names is None:
            thing.names = {}
        thing.names[name] = machine.depth > machine.births.get(thing.serial, (0, 0))[0]


def owned(value: Value, owner: Thing, name: str) -> None:
    """A value is given a name in a module or an object: the parts of modules know it, and so do tensors and lists."""
    for thing in things(value):
        owners = thing.owners
        if (
            isinstance(thing.what, (Module, Tensor))
            and owner is not thing
            and len(owners) < OWNERS
            and owner not in owners
        ):
            thing.owners = (*owners, owner)
    if not name or not isinstance(owner.what, (Module, Instance)):
        return
    for option in contents(value):
        if isinstance(option, (Items, Table)):
            option.kept = (owner, name)
        elif isinstance(option, Thing) and isinstance(option.what, Tensor):
            option.what.kept = (owner, name)


def holder(thing: Thing) -> Thing | None:
    """The module that may get a part where something is put into a thing: a container of torch, `_modules`, itself."""
    if isinstance(thing.what, Module):
        return thing
    above = walked_from(thing) or thing.root
    return above if isinstance(thing.what, Opaque) and isinstance(above.what, Module) else None


def changed(module: Thing) -> None:
    """Something is put into a module under a name that is not known: what is read from it later may be another part."""
    module.core.changed = new_serial()


def given(machine: Machine, node: tree.Node, values: Iterable[Value | None]) -> None:
    """Code that was not seen is given some values; see `may_grow`."""
    known = [value for value in values if value is not None]
    if machine.trains and known:
        may_grow(machine, node, held(machine, *known), known)


def may_grow(
    machine: Machine,
    node: tree.Node,
    found: Holdings,
    values: Iterable[Value | None],
    function: tree.Function | None = None,
) -> None:
    """Code that was not seen has modules, and may put parts into them, take others away or thaw what is frozen.

    `found` is what it reaches, by the values that it is given; `function` what is not followed, if the project has it.
    """
    walked = [walked_from(t) for value in values for t in things(value)]
    met = (*map(module_of, found.things.values()), *walked)
    modules = {t.serial: t for t in met if t is not None and isinstance(t.what, _GIVEN)}
    if not modules and not found.anything:
        return
    if function is not None:
        if id(function) not in machine.leaves:
            machine.leaves[id(function)] = _puts_nothing(function)
        if machine.leaves[id(function)]:
            return
    for module in modules.values():
        changed(module)
        module.core.open = True
    if found.anything:
        machine.grown = new_serial()
    several = tuple(modules.values())
    subject = None if found.anything else several[0] if len(several) == 1 else Choice(several)
    machine.emit(node, Grow(subject))


_GIVEN = (Module, Opaque, Tensor)


def walked_from(thing: Thing) -> Thing | None:
    """The module whose parts a loop goes over, of one of these: `model` for `m` in `for m in model.modules()`."""
    via = thing.root.via
    return via.module if isinstance(via, Walk) else None


def _puts_nothing(function: tree.Function) -> bool:
    """Whether a function that is not followed surely leaves what it is given as it is, by what it writes and calls.

    What a constructor gives to the object that it makes is no part of anything yet.
    """
    own = function.parameters[0].name if function.name == "__init__" and function.parameters else ""
    for node in tree.walk_block(function.body):
        if isinstance(node, (tree.Function, tree.Class)):
            return False
        targets: list[tree.Expression] = []
        if isinstance(node, tree.Assign):
            targets = list(node.targets)
        elif isinstance(node, (tree.Augment, tree.For)):
            targets = [node.target]
        for target in targets:
            for part in target.walk():
                base = part.value if isinstance(part, (tree.Attribute, tree.Subscript)) else None
                if base is not None and not (own and tree.dotted(base) == own):
                    return False
        if isinstance(node, tree.Call) and not _leaves_alone(node):
            return False
    return True


def puts_new(function: tree.Function) -> bool:
    """Whether a function makes something and puts it into an attribute, an item or a container."""
    for node in tree.walk_block(function.body):
        if isinstance(node, tree.Assign):
            if _makes(node.value) and any(isinstance(t, (tree.Attribute, tree.Subscript)) for t in node.targets):
                return True
        elif isinstance(node, tree.Call) and tree.last_name(node.func) in _PUTTING and _makes_any(node):
            return True
    return False


def _makes(node: tree.Node | None) -> bool:
    """Whether an expression is a call of a class, by its name."""
    return isinstance(node, tree.Call) and tree.last_name(node.func)[:1].isupper()


def _makes_any(call: tree.Call) -> bool:
    return any(_makes(argument.value) for argument in call.args)


_PUTTING = frozenset({"setattr", "append", "insert", "add_module", "register_module", "register_parameter"})


def may_change(function: tree.Function, name: str) -> bool:
    """Whether a method may put something into what its object has under a name, exchange it or thaw it."""

    def speaks(node: tree.Node) -> bool:
        return any(isinstance(part, tree.Attribute) and part.attr == name for part in node.walk())

    nodes = list(tree.walk_block(function.body))
    if not any(isinstance(node, tree.Attribute) and node.attr == name for node in nodes):
        return False
    for node in nodes:
        for target in node.targets if isinstance(node, tree.Assign) else ():
            for part in target.walk():
                if not isinstance(part, tree.Attribute):
                    continue
                own = function.parameters and tree.dotted(part.value) == function.parameters[0].name
                if part.attr == name or not own:
                    return True
        if isinstance(node, tree.Call) and not _leaves_alone(node):
            owner = node.func.value if isinstance(node.func, tree.Attribute) else None
            if (owner is not None and speaks(owner)) or any(speaks(argument.value) for argument in node.args):
                return True
    return False


def _leaves_alone(call: tree.Call) -> bool:
    """Whether a call surely puts nothing into a module, by what is called."""
    name = tree.dotted(call.func)
    last = tree.last_name(call.func)
    if isinstance(call.func, tree.Name):
        return last in _LOOKING or (last[:1].isupper() and not call.args)
    if name.startswith(("torch.", "nn.", "F.", "np.", "math.", "logging.", "logger.")):
        return not reshapes(name)
    return looks(last)


_LOOKING = frozenset(
    "print len sum min max range zip enumerate list tuple dict set sorted reversed isinstance issubclass hasattr"
    " getattr type str int float bool repr format id abs round any all map filter next iter super".split()
)
"""Functions of Python that put nothing into what they are given."""


_LOOKS = re.compile(
    r"^_*(?:get_(?!\w*(?:peft|lora|adapt))|is_|has_|num_|numel|named_|count_|print|log|info|debug|warn|save|dump|state_dict"
    r"|load_state_dict|parameters|modules|children|buffers|forward|generate|encode|decode|predict|train$|eval$|to$|cpu$"
    r"|cuda$|half$|float$|double$|bfloat16$|type$|size$|dim$|item$|items$|keys$|values$|join$|format$|split$|startswith$"
    r"|endswith$|replace$|zero_grad$|share_memory|extra_repr|__init__$|gradient_checkpointing)"
)


def looks(name: str) -> bool:
    """Whether a method of such a name puts nothing into the module that it belongs to, and thaws nothing."""
    return _LOOKS.match(name) is not None


_RESHAPING = re.compile(
    r"^(?:(?:torch\.)?nn\.utils\.(?!clip|parameters_to|vector_to|get_total|rnn\.|convert)"
    r"|torch\.(?:ao|quantization|fx|func)\.|torchao\.|(?:peft|transformers|diffusers|sentence_transformers|open_clip|timm)\.)"
)


def reshapes(name: str) -> bool:
    """Whether a function of a package that is known may put parts into a module, though it knows no optimizer."""
    return _RESHAPING.match(name) is not None


def composed(module: Thing, args: Iterable[Value]) -> None:
    """A layer of torch is made of modules: `nn.Sequential(a, b)`, `nn.ModuleList([a, b])`, `nn.ModuleDict({…})`."""
    for option in contents(Items(tree.Container.TUPLE, list(args))):
        if isinstance(option, Thing) and isinstance(option.what, Module):
            owned(option, module, "")


def parts(machine: Machine, module: Thing) -> tuple[Thing, ...]:
    """The modules and tensors that a module holds, at any depth, as far as the code shows."""
    found: dict[int, Thing] = {}
    todo = [module.core]
    while todo:
        thing = todo.pop()
        spend(1 + len(thing.names or ()))
        for part in _direct(machine, thing):
            part = part.core
            if part.serial not in found and part is not module:
                found[part.serial] = part
                todo.append(part)
    return tuple(found.values())


def _direct(machine: Machine, thing: Thing) -> list[Thing]:
    values = [machine.get(thing.serial, name) for name in (thing.names or ())]
    args = thing.args
    if args is not None and isinstance(thing.cls, External) and thing.copy_of is None:
        for value in args.positional:
            values += value.items if isinstance(value, Items) else [value]
    found = [t for value in values for t in things(value)]
    return [t for t in found if isinstance(t.what, Module) or has_parameters(t)]


def registered(thing: Thing, owner: Thing) -> bool:
    """Whether it was read from a module through modules only, so that the module's parameters are its owner's too."""
    thing, owner = thing.core, owner.core
    while thing is not owner:
        if thing.parent is None:
            return False
        above, attribute = thing.parent[0].core, thing.parent[1]
        if not isinstance(above.what, (Module, Opaque)):
            return False
        if isinstance(above.cls, ClassValue) and not _makes_layer(above.cls, attribute):
            return False
        thing = above
    return True


def _makes_layer(cls: ClassValue, attribute: str) -> bool:
    """Whether the class makes the attribute a layer of torch."""
    init = cls.member("__init__")
    if not isinstance(init, FunctionValue):
        return False
    for node in tree.walk_block(init.function.body):
        if isinstance(node, tree.Assign) and isinstance(node.value, tree.Call):
            layer = tree.dotted(node.value.func).startswith(("nn.", "torch.nn."))
            if layer and any(tree.dotted(target) == f"self.{attribute}" for target in node.targets):
                return True
    return False


def makes_no_part(cls: ClassValue, module: Thing) -> bool:
    """Whether nothing in a class (and in those it derives from) can give its instances a parameter."""
    if not cls.closed:
        return False
    own: set[str] = set()
    for base in cls.lineage():
        for member in base.members.values() if isinstance(base, ClassValue) else ():
            if isinstance(member, FunctionValue) and not _registers_nothing(member.function, own):
                return False
    return own.issuperset(module.names or ())  # else somebody else gave it an attribute


def _registers_nothing(function: tree.Function, own: set[str]) -> bool:
    """Whether a method assigns to attributes only what is no module and no tensor; they are added to `own`."""
    for node in tree.walk_block(function.body):
        if isinstance(node, tree.Assign):
            to_self = [target.attr for target in node.targets if isinstance(target, tree.Attribute)]
            if len(to_self) < len(node.targets) and any(_mentions_attribute(target) for target in node.targets):
                return False  # unpacked into attributes, or put into a dict of the module's
            own.update(to_self)
            if to_self and not isinstance(node.value, (tree.Constant, tree.Display, tree.Comprehension, tree.Dict)):
                return False
        elif isinstance(node, tree.Call) and _REGISTERING.search(tree.last_name(node.func)):
            return False
        elif isinstance(node, tree.Call) and any(
            isinstance(a.value, tree.Name) and a.value.id == "self" for a in node.args
        ):
            return False  # who gets the module may register something
        elif isinstance(node, (tree.Function, tree.Class)):
            return False
    return True


def _mentions_attribute(target: tree.Expression) -> bool:
    return any(isinstance(node, tree.Attribute) for node in target.walk())


_REGISTERING = re.compile(r"register|add_module|setattr|update|load|apply|build|init(?!__)")


def parts_in(machine: Machine, given: Value | None) -> Parts:
    """The parts of all modules whose parameters are handed over."""
    found: Parts = {}
    seen: set[int] = set()  # lists, dicts and chains that were looked into
    todo: list[Value] = [] if given is None else [given]
    while todo:
        for option in options(todo.pop()):
            spend(1)
            if isinstance(option, (Items, Table)) or chained(option) is not None:
                if id(option) in seen:
                    continue
                seen.add(id(option))
            if isinstance(option, Items):
                todo += option.items
            elif isinstance(option, Table):
                todo += option.entries.values()
            elif isinstance(option, Thing):
                todo += chained(option) or ()
                of = module_of(option)
                if of is not None and isinstance(of.what, Module) and of.serial not in found:
                    found[of.serial] = parts(machine, of)
    return found


def picture(given: Value | None) -> Value | None:
    """The value as it is now: what is put into its lists later does not reach an optimizer that took it."""
    return _picture(given, 4, {}) if isinstance(given, (Items, Table)) else given


def _picture(given: Value, depth: int, known: dict[tuple[int, int], Value]) -> Value:
    if not depth or not isinstance(given, (Items, Table)):
        return given
    made = known.get((id(given), depth))
    if made is None:
        spend(len(given.items if isinstance(given, Items) else given.entries))
        if isinstance(given, Items):
            items = [_picture(item, depth - 1, known) for item in given.items]
            made = Items(given.kind, items, given.complete, given.place, unordered=given.unordered)
            made.strange, made.sifted = given.strange, given.sifted
        else:
            entries = {key: _picture(value, depth - 1, known) for key, value in given.entries.items()}
            made = Table(entries, given.complete, given.place)
        made.kept = given.kept
        known[id(given), depth] = made
    return made
