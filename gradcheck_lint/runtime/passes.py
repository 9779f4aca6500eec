"""Which modules are called in the forward passes of a few losses, and what goes in and comes out.

torch has one hook for the calls of all modules. It is in place only while something is suspected, for a few steps; no
tensor is kept.
"""

from __future__ import annotations

import os
import sys
from threading import get_ident
from typing import TYPE_CHECKING, Any, NamedTuple

from gradcheck_lint.runtime import sites

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType, FrameType

    from torch import Tensor
    from torch.nn import Module

    from gradcheck_lint.runtime.session import Session
    from gradcheck_lint.runtime.sites import Mark

MOST = 4000  # calls of one pass that are noted
_CHECKPOINT = os.path.join("torch", "utils", "checkpoint.py")


class Called(NamedTuple):
    """One call of a module."""

    module: int  # its id
    on: bool  # gradients were on
    given: bool | None  # a tensor that it was given requires grad; None if it was given none of real numbers
    gives: bool | None  # one that it gave does
    checkpoint: Mark | None  # the line that called the reentrant checkpoint inside of which this is
    trail: tuple[tuple[CodeType, int], ...]  # the user's code that was running, innermost first


class Passes:
    """Hears the calls of all modules while it listens."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._handle: Any = None
        self._compiled = _compiled()
        self.calls: list[Called] = []  # since the latest backward ended

    @property
    def listens(self) -> bool:
        return self._handle is not None

    def listen(self) -> None:
        """Not where code is compiled: the hook would be seen there."""
        if self._handle is None and self._compiled == _compiled() and not self._has_compiled():
            from torch.nn.modules.module import register_module_forward_hook

            self.calls = []
            self._handle = register_module_forward_hook(self._heard)

    def _has_compiled(self) -> bool:
        """Whether a watched model is, or has, a compiled part."""
        return any(
            type(module).__name__ == "OptimizedModule" or getattr(module, "_compiled_call_impl", None) is not None
            for _, module in self._session.models.modules()
        )

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.remove()
            self._handle = None
        self.calls = []

    def _heard(self, module: Module, args: Any, output: Any) -> None:
        if get_ident() == self._session.turn.thread and len(self.calls) < MOST:
            self._session.guard.aside(self._note, module, args, output)

    def _note(self, module: Module, args: Any, output: Any) -> None:
        import torch

        trail: list[tuple[CodeType, int]] = []
        checkpoint: Mark | None = None
        inside = False
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            code = frame.f_code
            if sites.foreign(code.co_filename):
                inside = inside or (code.co_name == "forward" and code.co_filename.endswith(_CHECKPOINT))
            else:
                if inside and checkpoint is None:
                    checkpoint = sites.Mark(code, frame.f_lasti, frame.f_lineno)
                trail.append((code, frame.f_lasti))
            frame = frame.f_back
        self.calls.append(
            Called(
                id(module), torch.is_grad_enabled(), _requires(args), _requires(output), checkpoint, tuple(trail)
            )
        )  # fmt: skip


def _compiled() -> int:
    """How many frames torch.compile has compiled in this process."""
    counters = getattr(sys.modules.get("torch._dynamo.utils"), "counters", None)
    return sum(counters["frames"].values()) if counters else 0


def _requires(thing: Any) -> bool | None:
    """Whether one of the tensors of real numbers in it requires grad; None if there are none."""
    found = [tensor.requires_grad for tensor in _tensors(thing, 3)]
    return any(found) if found else None


def _tensors(thing: Any, deep: int) -> Iterator[Tensor]:
    import torch

    if isinstance(thing, torch.Tensor):
        if thing.is_floating_point() or thing.is_complex():
            yield thing
    elif deep and isinstance(thing, (list, tuple)):
        for item in thing[:20]:
            yield from _tensors(item, deep - 1)
    elif deep and isinstance(thing, dict):
        for item in list(thing.values())[:20]:
            yield from _tensors(item, deep - 1)
