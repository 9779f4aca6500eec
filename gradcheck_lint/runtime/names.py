"""What the user calls a tensor: its name in a model, or the variable that holds it."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any

from gradcheck_lint.runtime import sites
from gradcheck_lint.runtime.objects import instances
from gradcheck_lint.runtime.references import Ref

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

MANY = 100  # a list of so many things is not looked through
_LONG = 60  # letters of a key that is a text rather than a name
_WRAPPERS = ("module.", "_orig_mod.", "_fsdp_wrapped_module.", "_forward_module.")


class Models:
    """The models under watch, each with the name that the user has for it.

    Holds them weakly: watching keeps no model in memory.
    """

    def __init__(self, may: Callable[[set[int]], bool] | None = None) -> None:
        """may: whether the parameters of a model may be looked at, by their ids; another thread may be at work."""
        self._may = may
        self._models: list[tuple[str, weakref.ref[Module]]] = []
        self._searched: set[Any] = set()
        self._names: dict[int, str] = {}
        self._nameless: dict[int, Ref] = {}  # tensors that no model had when it was asked

    def __iter__(self) -> Iterator[tuple[str, Module]]:
        for name, ref in self._models:
            model = ref()
            if model is not None:
                yield name, model

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def add(self, model: Module, name: str = "") -> bool:
        """Watch this model too; False if it, or one that it is a part of, is watched already."""
        for _, known in self:
            if known is model or any(part is model for part in known.modules()):
                return False
        self._models = [
            (other, ref) for other, ref in self._models if not any(part is ref() for part in model.modules())
        ]
        self._models.append((name, weakref.ref(model)))
        self.forget_names()
        if self._may is not None and not self._may({id(parameter) for parameter in model.parameters()}):
            self._models.pop()
            return False
        return True

    def drop(self, ids: set[int] | None) -> None:
        """Watch no more the models that hold one of these; None for all of them."""
        if ids is None:
            self._models = []
        lost = [model for _, model in self if ids and any(id(parameter) in ids for parameter in model.parameters())]
        self._models = [(name, ref) for name, ref in self._models if not any(ref() is model for model in lost)]
        self.forget_names()

    def find(self, frames: Iterable[FrameType], ids: set[int]) -> bool:
        """Look for models that hold some of the tensors `ids` among the variables of the frames."""
        found = False
        for frame in frames:
            for name, value in modules_of(frame):
                if any(id(parameter) in ids for parameter in value.parameters()):
                    found = self.add(value, name) or found
        return found

    def find_anywhere(self, ids: set[int]) -> bool:
        """The same among all objects there are; takes a tenth of a second."""
        from torch.nn import Module

        modules: list[Module] = instances(Module)
        above = {id(child): module for module in modules for child in vars(module).get("_modules", {}).values()}
        found = False
        for module in modules:
            if any(id(parameter) in ids for parameter in vars(module).get("_parameters", {}).values()):
                found = self.add(_outermost(module, above), "") or found
        return found

    def parameters(self) -> Iterator[tuple[str, Tensor]]:
        """Every parameter of every model with its full name, once for each."""
        several = len(self) > 1
        seen: set[int] = set()
        for label, model in self:
            for name, parameter in model.named_parameters():
                if id(parameter) not in seen:
                    seen.add(id(parameter))
                    yield qualified(label if several else "", name), parameter

    def modules(self) -> Iterator[tuple[str, Module]]:
        """Every module of every model with its full name; the model itself goes by the user's variable."""
        several = len(self) > 1
        for label, model in self:
            for name, module in model.named_modules():
                yield (qualified(label if several else "", name) or label or type(model).__name__), module

    def name(self, tensor: Tensor) -> str:
        """The name of a parameter in its model; empty if no watched model has it."""
        key = id(tensor)
        name = self._names.get(key)
        if name is None:
            nameless = self._nameless.get(key)
            if nameless is not None and nameless() is tensor:
                return ""
            self._names = {id(parameter): name for name, parameter in self.parameters()}
            name = self._names.get(key, "")
            if not name:
                self._nameless[key] = Ref(tensor)
        return name

    def forget_names(self) -> None:
        self._names.clear()
        self._nameless.clear()

    def grown(self) -> None:
        """Something was put into a module: what no model had, one may have now."""
        self._nameless.clear()


@functools.lru_cache(maxsize=4096)
def qualified(label: str, name: str) -> str:
    """`encoder.weight` of the model `net` among others: `net.encoder.weight`; without the names of wrappers."""
    for wrapper in _WRAPPERS:
        while name.startswith(wrapper):
            name = name[len(wrapper) :]
        name = name.replace(f".{wrapper}", ".")
    if name in {wrapper[:-1] for wrapper in _WRAPPERS}:
        name = ""
    return f"{label}.{name}" if label and name else label or name


def expression(label: str, name: str) -> str:
    """A part of a model as the user's code would write it: `net.blocks[0].norm` for `blocks.0.norm` of `net`."""
    pieces = name.split(".") if name else []
    return (label or "model") + "".join(f"[{piece}]" if piece.isdigit() else f".{piece}" for piece in pieces)


def variable(tensor: object, frames: Iterable[FrameType]) -> str:
    """The name of a variable that holds this very object; empty if none does."""
    for frame in frames:
        for scope in (sites.variables(frame), frame.f_globals):
            for name, value in list(scope.items()):
                if value is tensor and not name.startswith("_") and name != "self":
                    return name
                for part, item in _items(value):
                    if item is tensor:
                        return f"{name}{part}"
    for frame in frames:
        owner = sites.variables(frame).get("self")
        for name, value in attributes(owner).items():
            if value is tensor:
                return f"self.{name}"
    for frame in frames:
        for name, thing in list(sites.variables(frame).items()):
            for part, value in attributes(thing).items():
                if value is tensor and not name.startswith("_"):
                    return f"{name}.{part}"
    return ""


def _outermost(module: Module, above: Mapping[int, Module]) -> Module:
    """The whole model that a module is in; `above` has the module around each, by its id."""
    seen = {id(module)}
    while (around := above.get(id(module))) is not None and id(around) not in seen:
        seen.add(id(around))
        module = around
    return module


def modules_of(frame: FrameType) -> Iterator[tuple[str, Module]]:
    """The modules among the variables of a frame, and among the attributes of the objects there."""
    from torch.nn import Module

    seen: set[int] = set()
    scopes: list[Mapping[str, Any]] = [sites.variables(frame), frame.f_globals]
    for scope in scopes:
        for name, value in list(scope.items()):
            if name.startswith("__") or id(value) in seen:
                continue
            seen.add(id(value))
            if issubclass(type(value), Module):
                yield name, value
                continue
            for part, inner in (*attributes(value).items(), *_items(value)):
                if issubclass(type(inner), Module) and id(inner) not in seen:
                    seen.add(id(inner))
                    yield (f"{name}.{part}" if part[0] != "[" else f"{name}{part}"), inner


def modules_near(frames: Iterable[FrameType]) -> Iterator[Module]:
    """The modules at hand in these frames, and those that the objects there have in objects of their own."""
    from torch.nn import Module

    seen: set[int] = set()
    for frame in frames:
        for _, module in modules_of(frame):
            if id(module) not in seen:
                seen.add(id(module))
                yield module
        for value in list(sites.variables(frame).values()):
            for part in attributes(value).values() if not issubclass(type(value), Module) else ():
                for inner in attributes(part).values():
                    if issubclass(type(inner), Module) and id(inner) not in seen:
                        seen.add(id(inner))
                        yield inner


def _items(thing: object) -> Iterator[tuple[str, object]]:
    """What is in a short list, tuple or dict, each with the index or key in brackets."""
    if type(thing) in (list, tuple) and len(thing) < MANY:  # type: ignore[arg-type]
        yield from ((f"[{index}]", item) for index, item in enumerate(thing))  # type: ignore[arg-type, var-annotated]
    elif type(thing) is dict and len(thing) < MANY:
        yield from ((_key(key), item) for key, item in list(thing.items()))


def _key(key: object) -> str:
    """A key of a dict in brackets; those that are not words or numbers stay unread, for they may be tensors."""
    return f"[{key!r}]" if type(key) in (int, str) and len(str(key)) < _LONG else "[...]"


def attributes(thing: object) -> dict[str, Any]:
    """The attributes of an object of a class of the user's; a plain read that runs no code of anybody's."""
    kind = type(thing)
    if kind.__module__ in ("builtins", "types", "torch") or isinstance(thing, type):
        return {}
    try:
        attributes = object.__getattribute__(thing, "__dict__")
    except AttributeError:
        return {}
    return dict(attributes) if type(attributes) is dict and len(attributes) < 500 else {}


def names_of(models: Models, tensors: Sequence[Tensor | None], frames: Sequence[FrameType]) -> list[str]:
    """What the user calls each of these, in a watched model, in any model at hand, or as a variable; "" for nothing."""
    near = Models()
    near.find(frames, {id(tensor) for tensor in tensors})
    known = {id(p): qualified(label, n) for label, model in near for n, p in model.named_parameters()}
    names = []
    for tensor in tensors:
        name = "" if tensor is None else models.name(tensor)
        if not name or name[0].isdigit():
            name = known.get(id(tensor), name)
        names.append(name or (variable(tensor, frames) if tensor is not None else ""))
    return names
