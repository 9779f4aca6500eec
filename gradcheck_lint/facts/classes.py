"""What a class of the project looks like to the rules about modules.

A class is met as text first, so that a rule can turn away from it before anything is parsed. What rules then ask for
is found by interpreting the class by itself: an object of it is made with unknown arguments (`made`), and a method is
called on that (`called`). What these cause is no part of the program's timelines.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING

from gradcheck_lint.source import natures, torch_api, tree
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source.effort import Stop
from gradcheck_lint.source.run import objects
from gradcheck_lint.source.values import ClassValue, External, FunctionValue, Items, Table, Thing, Value, options

if TYPE_CHECKING:
    from gradcheck_lint.source.outline import Definition
    from gradcheck_lint.source.project import Module
    from gradcheck_lint.source.run.machine import Machine

_MODULE_BASES = ("torch.nn.Module", "LightningModule", "PreTrainedModel", "ModelMixin")


class ClassFacts:
    """A class: its text, its value, and what making an object of it and calling its methods causes."""

    def __init__(self, machine: Machine, home: Module, qualname: str, definitions: list[Definition]) -> None:
        self.machine, self.home, self.qualname, self.definitions = machine, home, qualname, definitions
        self._called: dict[str, tl.Timeline | None] = {}

    # ------------------------------------------------------------ text

    @property
    def name(self) -> str:
        return self.qualname.rpartition(".")[2]

    @cached_property
    def text(self) -> str:
        """The text of its methods."""
        return "".join(d.text for d in self.definitions)

    @cached_property
    def inherited(self) -> str:
        """The text of its methods and of those of its bases in the project."""
        return "".join(_text(self.machine, v) for v in self.lineage if isinstance(v, ClassValue))

    def method_text(self, name: str) -> str:
        return "".join(d.text for d in self.definitions if d.name == name)

    def elsewhere(self) -> Iterator[str]:
        """The texts of the project that can speak of its objects: those of the files that say its name."""
        for module in self.machine.project.modules.values():
            if module is not None and (module is self.home or self.name in module.text):
                yield module.text

    # ------------------------------------------------------------ what it is

    @cached_property
    def cls(self) -> ClassValue | None:
        """Its value, if it can still be reached by its name."""
        scope = self.machine.namespace(self.home)
        first, *rest = self.qualname.split(".")
        value = self.machine.get(scope, first)
        for part in rest:
            value = value.members.get(part) if isinstance(value, ClassValue) else None
        return value if isinstance(value, ClassValue) and value.home is self.home else None

    @cached_property
    def lineage(self) -> list[Value]:
        """The class and all its bases, nearest first."""
        return list(self.cls.lineage()) if self.cls is not None else []

    @property
    def is_module(self) -> bool:
        """Whether it derives from nn.Module, as far as the code shows."""
        return self.cls is not None and is_module(self.cls)

    @property
    def derived(self) -> list[ClassValue]:
        """The project's classes that derive from it, as far as they have been met."""
        return self.machine.children.get(self.cls.serial, []) if self.cls is not None else []

    def spelled(self, name: str) -> str | None:
        """How its file can write a name of torch (`torch.nn.ModuleList`): by what it has imported, or not at all."""
        scope = self.machine.namespace(self.home)
        head, _, last = name.rpartition(".")
        found: dict[str, str] = {}
        for bound in self.machine.globals.get(scope, ()):
            value = self.machine.get(scope, bound)
            if isinstance(value, External):
                if value.name == name:
                    found.setdefault("name", bound)
                elif value.name == head:
                    found.setdefault("head", f"{bound}.{last}")
                elif value.name == "torch" and name.startswith("torch."):
                    found.setdefault("torch", bound + name.removeprefix("torch"))
        return found.get("head") or found.get("name") or found.get("torch")

    # ------------------------------------------------------------ what it does

    @cached_property
    def instance(self) -> Thing:
        """An object of the class, made with unknown arguments; `made` tells what that caused."""
        assert self.cls is not None
        thing = objects.new_instance(self.cls, None)
        thing.label = "self"
        return thing

    @cached_property
    def made(self) -> tl.Timeline:
        """What `__init__` causes."""

        def run() -> None:
            self.machine.prepare(self.instance, None)

        return self._apart(run)

    def attribute(self, name: str) -> Value | None:
        """What an attribute of the object is after `__init__`."""
        self.made  # noqa: B018 - runs `__init__`
        return self.machine.get(self.instance.serial, name)

    def called(self, name: str) -> tl.Timeline | None:
        """What a method called with unknown arguments causes after `__init__`; None if it has no such method."""
        if name not in self._called:
            self.made  # noqa: B018 - runs `__init__`
            member = self.cls.member(name) if self.cls is not None else None
            self._called[name] = None
            if isinstance(member, FunctionValue):
                bound = member.bind(self.instance)
                self._called[name] = self._apart(lambda: self.machine.follow(bound, None, None))
        return self._called[name]

    def _apart(self, run: Callable[[], object]) -> tl.Timeline:
        """The timeline of something that is interpreted apart from the program."""
        i = self.machine
        saved = (i.timeline, i.sequence, i.steps, i.followed, i.frames, i.undo, i.looping, i.relevant)
        i.timeline = timeline = tl.Timeline(self.home, None)
        i.sequence, i.steps, i.followed, i.frames, i.undo, i.looping = timeline.tree, 0, {}, [], [], 0
        i.relevant = self._relevant
        unrolled, i.unrolled = i.unrolled, 1
        allowance = i.purse.allowance()
        try:
            with allowance:
                run()
        except Stop:
            timeline.cut = True
        finally:
            i.purse.pay(allowance.used)
            i.unrolled = unrolled
            i.timeline, i.sequence, i.steps, i.followed, i.frames, i.undo, i.looping, i.relevant = saved
        return timeline

    def _relevant(self, function: tree.Function) -> bool:
        """Its own and inherited methods are followed, and functions that speak of layers."""
        found = self.machine.project.definition_of.get(id(function))
        if found is None:
            return True
        module, definition = found
        if definition.owner:
            return any(
                isinstance(v, ClassValue) and v.home is module and v.name == definition.owner.rpartition(".")[2]
                for v in self.lineage
            )
        return _LAYER_TEXT.search(definition.text) is not None


def class_facts(machine: Machine, module: Module) -> list[ClassFacts]:
    """The classes of a module that have methods, in the order of the file."""
    owners: dict[str, list[Definition]] = {}
    for definition in module.outline.definitions:
        if definition.owner:
            owners.setdefault(definition.owner, []).append(definition)
    return [ClassFacts(machine, module, owner, definitions) for owner, definitions in owners.items()]


# ---------------------------------------------------------------- layers

_LAYERS = (
    r"Linear|Bilinear|Conv[123]d|ConvTranspose[123]d|BatchNorm[123]d|SyncBatchNorm|LayerNorm|GroupNorm|RMSNorm"
    r"|Embedding|EmbeddingBag|RNN|LSTM|GRU|RNNCell|LSTMCell|GRUCell|MultiheadAttention|Transformer\w*|PReLU"
    r"|Lazy(?:Linear|Conv\w+|BatchNorm\w+)"
)
_WITH_WEIGHTS = re.compile(rf"torch\.nn\.(?:{_LAYERS})")
_WITH_MODE = re.compile(r"torch\.nn\.(?:\w*Dropout\w*|RReLU)")
_MODE_TEXT = re.compile(r"\bself\.training\b|\b\w*Dropout\w*\(")
_LAYER_TEXT = re.compile(r"\bnn\.|\binit\.|[Ll]ayer|[Mm]odule|[Bb]lock|[A-Z]\w*\(")
_CONTAINERS = ("torch.nn.Sequential", "torch.nn.ModuleList", "torch.nn.ModuleDict")

WEIGHTED = re.compile(rf"\b(?:{_LAYERS}|Parameter)\(")
"""Text that makes a layer with weights, or a parameter."""

_MADE = re.compile(r"\b([A-Z]\w*)\(")


def is_module(cls: ClassValue) -> bool:
    """Whether a class derives from nn.Module, as far as the code shows."""
    return cls.derives(*_MODULE_BASES) or any(
        isinstance(v, External) and torch_api.nature_of_class(v.name) is natures.Module for v in cls.lineage()
    )


def has_weights(machine: Machine, thing: Thing, mode: bool = False) -> bool:
    """Whether a module was made with weights in it; or, if `mode`, with something that differs after eval()."""
    if isinstance(thing.cls, ClassValue):
        if mode and any(_MODE_TEXT.search(_text(machine, v)) for v in thing.cls.lineage() if isinstance(v, ClassValue)):
            return is_module(thing.cls)
        return class_has_weights(machine, thing.cls)
    if not isinstance(thing.cls, External):
        return False
    name = thing.cls.name
    args = thing.args
    if args is None:
        return False
    if name in _CONTAINERS:
        return any(has_weights(machine, t, mode) for a in args.all() for t in made_modules(a))
    if name.endswith("Norm") or "BatchNorm" in name:
        off = [args.keywords.get(k) for k in ("affine", "elementwise_affine")]
        if any(getattr(flag, "value", True) is False for flag in off):
            return mode and "BatchNorm" in name
    if _WITH_WEIGHTS.fullmatch(name):
        return True
    return mode and _WITH_MODE.fullmatch(name) is not None


def class_has_weights(machine: Machine, cls: ClassValue, depth: int = 0) -> bool:
    """Whether the text of a module class makes layers with weights, itself or by other classes of the project."""
    if not is_module(cls):
        return False
    known = machine.weights
    if cls.serial not in known:
        known[cls.serial] = False  # while we look: a class that contains itself adds nothing
        known[cls.serial] = _class_has_weights(machine, cls, depth)
    return known[cls.serial]


def _class_has_weights(machine: Machine, cls: ClassValue, depth: int) -> bool:
    for value in cls.lineage():
        if isinstance(value, External) and _WITH_WEIGHTS.fullmatch(value.name):
            return True
        if not isinstance(value, ClassValue):
            continue
        text = _text(machine, value)
        if WEIGHTED.search(text):
            return True
        scope = machine.namespace(value.home)
        for name in sorted(set(_MADE.findall(text))) if depth < 4 else ():
            found = resolved(machine, scope, name)
            if isinstance(found, ClassValue) and class_has_weights(machine, found, depth + 1):
                return True
    return False


def resolved(machine: Machine, scope: int, name: str) -> Value | None:
    """What a name of a module stands for; an imported one is looked up where it comes from."""
    value = machine.get(scope, name)
    force = getattr(value, "force", None)
    return force() if force is not None else value


def _text(machine: Machine, cls: ClassValue) -> str:
    """The text of the methods of a class."""
    texts = []
    for member in cls.members.values():
        if isinstance(member, FunctionValue) and member.owner is cls:
            found = machine.project.definition_of.get(id(member.function))
            if found is not None:
                texts.append(found[1].text)
    return "".join(texts)


def made_modules(value: Value | None, depth: int = 0) -> Iterator[Thing]:
    """The modules in a value: itself, or what a container of Python holds."""
    for option in options(value):
        if isinstance(option, Thing) and isinstance(option.what, natures.Module):
            yield option
        elif isinstance(option, Items) and depth < 4:
            for item in option.items:
                yield from made_modules(item, depth + 1)
        elif isinstance(option, Table) and depth < 4:
            for entry in option.entries.values():
                yield from made_modules(entry, depth + 1)


def reached(value: Value | None) -> set[Thing]:
    """All things that code which is given a value gets hold of: parts of containers, and what modules were made of."""
    found: set[Thing] = set()
    todo: list[Value] = list(options(value))
    while todo:
        option = todo.pop()
        if isinstance(option, Items):
            todo += [o for item in option.items for o in options(item)]
        elif isinstance(option, Table):
            todo += [o for entry in option.entries.values() for o in options(entry)]
        elif isinstance(option, Thing) and option not in found:
            found.add(option)
            todo += option.deps
            args = option.args
            if args is not None:
                todo += [o for a in args.all() for o in options(a)]
            if option.wraps is not None:
                todo.append(option.wraps)
    return found
