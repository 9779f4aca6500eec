"""What a module consists of at some moment, and a picture of what an optimizer is handed then."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gradcheck_lint.source import tree
from gradcheck_lint.source.effort import spend
from gradcheck_lint.source.values import (
    ClassValue,
    External,
    FunctionValue,
    Items,
    Table,
    Thing,
    Value,
    options,
    things,
)

if TYPE_CHECKING:
    from gradcheck_lint.source.interpret import Interpreter

LEARNING = frozenset(
    {
        "Linear", "Bilinear", "Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d",
        "LSTM", "GRU", "RNN", "LSTMCell", "GRUCell", "RNNCell", "Embedding", "EmbeddingBag", "BatchNorm1d",
        "BatchNorm2d", "BatchNorm3d", "LayerNorm", "GroupNorm", "MultiheadAttention", "PReLU", "Transformer",
        "TransformerEncoderLayer", "TransformerDecoderLayer",
    }
)  # fmt: skip
"""Layers of torch.nn that have parameters."""

WITHOUT_PARAMETERS = frozenset(
    {
        "ReLU", "ReLU6", "LeakyReLU", "ELU", "GELU", "SiLU", "Tanh", "Sigmoid", "Softmax", "LogSoftmax", "Softplus",
        "Dropout", "Dropout2d", "Flatten", "Identity", "MaxPool1d", "MaxPool2d", "AvgPool1d", "AvgPool2d", "Upsample",
        "MSELoss", "L1Loss", "CrossEntropyLoss", "NLLLoss", "BCELoss", "BCEWithLogitsLoss", "SmoothL1Loss", "HuberLoss",
    }
)  # fmt: skip
"""Layers of torch.nn that have none."""

Parts = dict[int, tuple[Thing, ...]]
"""The parts of modules, by the serial number of the module."""


def has_parameters(thing: Thing) -> bool:
    """Whether it is a layer of torch that has parameters, or a tensor that can be one."""
    if thing.role == "tensor":
        return thing.detail.get("made_by") == "Parameter"
    if isinstance(thing.cls, External):
        return thing.role == "module" and thing.cls.name.rpartition(".")[2] in LEARNING
    return thing.role == "opaque" and thing.parent is not None and thing.parent[1] in ("weight", "bias")


def module_of(thing: Thing) -> Thing | None:
    """The module whose parameters these are; the thing itself if it is no collection of parameters."""
    while thing.role == "parameters":
        of = thing.detail.get("of")
        if not isinstance(of, Thing):
            return None
        thing = of
    return thing


def filtered(thing: Thing) -> bool:
    """Whether some parameters of the module may be left out."""
    while thing.role == "parameters":
        of = thing.detail.get("of")
        if thing.detail.get("filtered") or not isinstance(of, Thing):
            return True
        thing = of
    return False


def noted(thing: Thing, name: str | None) -> None:
    """An attribute of a module is set; None stands for one whose name is not known."""
    if name is None:
        thing.detail["open"] = True
    else:
        thing.detail.setdefault("names", {})[name] = None


def owned(value: Value, owner: Thing) -> None:
    """A module is given a name in another one, or in an object."""
    for thing in things(value):
        owners = thing.detail.get("owners", ())
        if thing.role == "module" and owner is not thing and len(owners) < 4 and owner not in owners:
            thing.detail["owners"] = (*owners, owner)


def parts(i: Interpreter, module: Thing) -> tuple[Thing, ...]:
    """The modules and tensors that a module holds, at any depth, as far as the code shows."""
    found: dict[int, Thing] = {}
    todo = [module.core]
    while todo:
        thing = todo.pop()
        spend(1 + len(thing.detail.get("names", ())))
        for part in _direct(i, thing):
            part = part.core
            if part.serial not in found and part is not module:
                found[part.serial] = part
                todo.append(part)
    return tuple(found.values())


def _direct(i: Interpreter, thing: Thing) -> list[Thing]:
    values = [i.get(thing.serial, name) for name in thing.detail.get("names", ())]
    args = thing.detail.get("args")
    if args is not None and isinstance(thing.cls, External) and "copy_of" not in thing.detail:
        for value in args.positional:
            values += value.items if isinstance(value, Items) else [value]
    found = [t for value in values for t in things(value)]
    return [t for t in found if t.role == "module" or has_parameters(t)]


def registered(thing: Thing, owner: Thing) -> bool:
    """Whether it was read from a module through modules only, so that the module's parameters are its owner's too."""
    thing, owner = thing.core, owner.core
    while thing is not owner:
        if thing.parent is None:
            return False
        above, attribute = thing.parent[0].core, thing.parent[1]
        if above.role not in ("module", "opaque"):
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
    return own.issuperset(module.detail.get("names", ()))  # else somebody else gave it an attribute


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


def parts_in(i: Interpreter, given: Value | None) -> Parts:
    """The parts of all modules whose parameters are handed over."""
    found: Parts = {}
    seen: set[int] = set()  # lists, dicts and chains that were looked into
    todo: list[Value] = [] if given is None else [given]
    while todo:
        for option in options(todo.pop()):
            spend(1)
            if isinstance(option, (Items, Table)) or (isinstance(option, Thing) and "parts" in option.detail):
                if id(option) in seen:
                    continue
                seen.add(id(option))
            if isinstance(option, Items):
                todo += option.items
            elif isinstance(option, Table):
                todo += option.entries.values()
            elif isinstance(option, Thing):
                todo += option.detail.get("parts", ())
                of = module_of(option)
                if of is not None and of.role == "module" and of.serial not in found:
                    found[of.serial] = parts(i, of)
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
        else:
            entries = {key: _picture(value, depth - 1, known) for key, value in given.entries.items()}
            made = Table(entries, given.complete, given.place)
        known[id(given), depth] = made
    return made
