"""Parameters that a function has collected in its variables: lists of them, and iterators that were read."""

from __future__ import annotations

from inspect import GEN_CREATED, getgeneratorstate
from types import GeneratorType
from typing import TYPE_CHECKING, Any

from gradcheck_lint.runtime import sites, stores

if TYPE_CHECKING:
    from types import FrameType

    from torch import Tensor

    from gradcheck_lint.runtime.sites import Mark


def lists(frame: FrameType) -> list[tuple[str, frozenset[int]]]:
    """The lists of parameters among the variables of a function, and the groups of an optimizer that hold some."""
    from torch.nn import Parameter

    found = []
    for name, value in list(sites.variables(frame).items()):
        if name.startswith("_"):
            continue
        items: Any = value.get("params") if type(value) is dict else value
        if items is not value and type(items) is GeneratorType:
            items = _unread(items)
        if type(items) in (list, tuple) and 0 < len(items) < 10_000:
            if all(isinstance(item, Parameter) for item in items):
                found.append((name, frozenset(id(item) for item in items)))
    return found


def _unread(iterator: GeneratorType[Any, Any, Any]) -> list[Tensor]:
    """What `module.parameters()` will give, of which nothing has been taken yet; empty for any other iterator."""
    from torch.nn import Module

    frame = iterator.gi_frame
    if frame is None or iterator.gi_code is not sites.code_of(Module.parameters):
        return []
    if getgeneratorstate(iterator) != GEN_CREATED:
        return []
    given = sites.variables(frame)
    return list(given["self"].parameters(given["recurse"])) if given.keys() >= {"self", "recurse"} else []


def spent(frame: FrameType) -> tuple[str, Mark | None]:
    """A variable with an iterator over the parameters of a module that was read to its end, and its second use."""
    from torch.nn import Module

    codes = [sites.code_of(Module.parameters), sites.code_of(Module.named_parameters)]
    for name, value in list(sites.variables(frame).items()):
        if type(value) is GeneratorType and value.gi_code in codes and value.gi_frame is None:
            uses = stores.loads(frame.f_code, name)
            if len(uses) > 1:
                return name, uses[1]
    return "", None
