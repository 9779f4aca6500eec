"""Parameters that tell when one thread looks at them while another goes backward to them.

To look at a gradient that torch is writing goes wrong once in many thousand times. Here it is noted each time.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from gradcheck_lint.runtime.graph import reach

_busy: dict[int, int] = {}  # by the id of a parameter, the thread that goes backward to it
_seen: list[str] = []


class Guarded(nn.Parameter):
    """Behaves as any other parameter."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @property
    def grad(self) -> torch.Tensor | None:  # type: ignore[override]
        _note(self, "grad")
        return nn.Parameter.grad.__get__(self)  # type: ignore[attr-defined, no-any-return]

    @grad.setter
    def grad(self, value: torch.Tensor | None) -> None:
        nn.Parameter.grad.__set__(self, value)  # type: ignore[attr-defined]

    @grad.deleter
    def grad(self) -> None:
        nn.Parameter.grad.__delete__(self)  # type: ignore[attr-defined]

    @property
    def _version(self) -> int:  # type: ignore[override]
        _note(self, "_version")
        return nn.Parameter._version.__get__(self)  # type: ignore[attr-defined, no-any-return]


def _note(parameter: torch.Tensor, what: str) -> None:
    if _busy.get(id(parameter), me := threading.get_ident()) != me:
        _seen.append(f"{what} was read in thread {me}\n" + "".join(traceback.format_stack(limit=12)[:-2]))


def guard(model: nn.Module) -> None:
    """Put guarded parameters in the place of all that it has."""
    for module in model.modules():
        for name, parameter in list(module._parameters.items()):
            if parameter is not None:
                module._parameters[name] = Guarded(parameter.data)


@contextmanager
def looks() -> Iterator[list[str]]:
    """Note who looks, and from where. Only what goes backward inside of this counts."""
    original: Callable[..., Any] = torch.autograd._engine_run_backward  # type: ignore[attr-defined]

    def run(roots: Any, *args: Any, **kwargs: Any) -> Any:
        own = [id(leaf) for leaf in reach(roots).leaves]
        _busy.update(dict.fromkeys(own, threading.get_ident()))
        try:
            return original(roots, *args, **kwargs)
        finally:
            for key in own:
                _busy.pop(key, None)

    _seen.clear()
    torch.autograd._engine_run_backward = run  # type: ignore[attr-defined]
    try:
        yield _seen
    finally:
        torch.autograd._engine_run_backward = original  # type: ignore[attr-defined]
        _busy.clear()
