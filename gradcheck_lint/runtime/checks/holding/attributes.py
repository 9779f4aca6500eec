"""What lies in the attributes of modules without being registered, and attributes that a module does not know.

Sighting: RequiresGradAttribute (`model.requires_grad = False`, which torch does not read).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from gradcheck_lint.laws.holding import Where
from gradcheck_lint.runtime import sites, stores
from gradcheck_lint.runtime.check import Check
from gradcheck_lint.runtime.codes import attribute_set, methods
from gradcheck_lint.runtime.names import attributes, expression
from gradcheck_lint.runtime.sightings.mode import RequiresGradAttribute
from gradcheck_lint.runtime.sites import resolve

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch.nn import Module

    from gradcheck_lint.runtime.observer import Observer
    from gradcheck_lint.runtime.record import Site
    from gradcheck_lint.runtime.session import Session
    from gradcheck_lint.runtime.sites import Mark

_ITEMS = 1000  # of a container that are looked at


class Hidden(NamedTuple):
    """Where something that should be registered lies."""

    where: Where
    attribute: str  # "layers"
    owner: type  # the class of the module
    container: str  # "list", "tuple", "dict", or "" for a plain attribute
    path: str  # "layers[0].weight"
    holder: type | None = None  # the class of what is in the attribute, if that is no module and should be one

    def made(self) -> Site | None:
        """The line that makes it so: where the attribute gets its value, or the class that is no module begins."""
        if self.holder is not None:
            return sites.of_class(self.holder, next(methods(self.holder), None))
        if self.where is Where.BUFFER:
            marks = (stores.called_with(code, "register_buffer", self.attribute) for code in methods(self.owner))
        else:
            marks = (stores.first_set_on(code, self.attribute) for code in methods(self.owner))
        return resolve(next((mark for mark in marks if mark is not None), None))


def hidden(models: Iterable[Module]) -> dict[int, Hidden]:
    """By id: leaves that require grad in attributes of modules, with the attribute, where nothing registers them."""
    from torch import Tensor
    from torch.nn import Module, Parameter

    found: dict[int, Hidden] = {}
    models = list(models)
    registered = {id(parameter) for model in models for parameter in model.parameters()}
    for model in models:
        for module in model.modules():
            owner = type(module)
            for name, buffer in module._buffers.items():
                if buffer is not None and buffer.requires_grad and buffer.is_leaf:
                    found[id(buffer)] = Hidden(Where.BUFFER, name, owner, "", name)
            for name, part, value, container in _contents(module):
                if issubclass(type(value), Module) and container:
                    for key, parameter in value.named_parameters():
                        path = f"{name}{part}.{key}"
                        found[id(parameter)] = Hidden(Where.LAYERS, name, owner, container, path)
                elif issubclass(type(value), Tensor) and value.requires_grad:
                    leaves = [value] if value.is_leaf else _sources(value)
                    for leaf in leaves:
                        if value.is_leaf or isinstance(leaf, Parameter):
                            found[id(leaf)] = Hidden(Where.ATTRIBUTE, name, owner, container, name + part)
                elif not issubclass(type(value), (Module, Tensor)) and _should_be_a_module(type(value)):
                    for path, parameter in _of_part(value):
                        place = Hidden(Where.OBJECT, name, owner, container, f"{name}{part}.{path}", type(value))
                        found[id(parameter)] = place
    return {key: place for key, place in found.items() if key not in registered}


def _should_be_a_module(kind: type) -> bool:
    """Whether the user wrote a class that computes as a module does."""
    codes = (sites.code_of(getattr(kind, name, None)) for name in ("forward", "__call__"))
    return any(code is not None and not sites.foreign(code.co_filename) for code in codes)


def _of_part(part: object) -> Iterator[tuple[str, Any]]:
    """The parameters in the attributes of an object that is no module, each with its path."""
    from torch.nn import Module, Parameter

    for name, value in attributes(part).items():
        if issubclass(type(value), Module):
            yield from ((f"{name}.{key}", parameter) for key, parameter in value.named_parameters())
        elif issubclass(type(value), Parameter):
            yield name, value


def _contents(module: Module) -> Iterator[tuple[str, str, Any, str]]:
    """The attributes of a module and what lies in them: its place, as "[0]", the thing, and the kind of container."""
    for name, value in list(vars(module).items()):
        if name in ("_parameters", "_modules", "_buffers") or name.endswith("_hooks"):
            continue
        if type(value) in (list, tuple, dict):
            for part, item in _items(value):
                yield name, part, item, type(value).__name__
        else:
            yield name, "", value, ""


def _items(container: Any, depth: int = 3) -> Iterator[tuple[str, Any]]:
    """What lies in a container, and in the containers in it, each with its place."""
    for key, item in list(container.items() if type(container) is dict else enumerate(container))[:_ITEMS]:
        place = f"[{key!r}]" if type(key) in (int, str) else "[...]"
        if type(item) in (list, tuple, dict) and depth:
            yield from ((place + part, inner) for part, inner in _items(item, depth - 1))
        else:
            yield place, item


def _sources(value: Any) -> list[Any]:
    """The leaves from which a tensor was computed in one step, as `parameter.to(device)` or `parameter * 0.1`."""
    following = [node for node, _ in value.grad_fn.next_functions if node is not None]
    return [node.variable for node in following if hasattr(node, "variable")]


class Attributes(Check):
    """Looks for `requires_grad` among the attributes of modules, which freezes or thaws nothing."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._told: set[int] = set()

    def before_update(self, observer: Observer, mark: Mark | None) -> None:
        from torch.nn import Module

        if observer.watched.steps > 2 and not observer.sampling.rarely(observer.watched.steps):
            return
        ids = observer.ids()
        models = self.session.models
        for label, (name, module) in ((label, pair) for label, model in models for pair in model.named_modules()):
            value = vars(module).get("requires_grad")
            if not isinstance(value, bool) or id(module) in self._told:
                continue
            parameters = list(module.parameters())
            if value is False:
                wrong = [p for p in parameters if p.requires_grad and p.grad is not None]
            else:
                wrong = [p for p in parameters if not p.requires_grad]
            if not wrong or len(wrong) < len(parameters) or not any(id(p) in ids for p in wrong):
                continue
            self._told.add(id(module))
            names = (expression(label, name),)
            made = attribute_set(sites.frames(2), module, "requires_grad", names[0], Module)
            scene = observer.scene(mark)
            self.session.take(
                RequiresGradAttribute(scene, names=names, value=value, number=len(wrong), made=resolve(made))
            )
