"""Frameworks that hold the loop: which line of the user's gave them the loss on which they call backward."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from gradcheck_lint.runtime import sites, stores

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import FrameType

    from gradcheck_lint.runtime.sites import Mark

_GIVES = ("training_step", "compute_loss")  # methods of the user's that Lightning and transformers ask for the loss


def handed_over(models: Iterable[object]) -> Mark | None:
    """The last `return` of such a method, of a model or of who holds the loop; None where no framework does."""
    holders = [holder for frame in _of_frameworks() if (holder := sites.variables(frame).get("self")) is not None]
    for owner in (*holders, *models) if holders else ():
        for name in _GIVES:
            code = sites.code_of(getattr(type(owner), name, None))
            if code is not None and not sites.foreign(code.co_filename):
                return stores.returned(code)
    return None


def _of_frameworks() -> list[FrameType]:
    """The frames of frameworks between the user's innermost one and here."""
    frame: FrameType | None = sys._getframe(2)
    found = []
    while frame is not None and (sites.ours(frame.f_code.co_filename) or sites.foreign(frame.f_code.co_filename)):
        if frame.f_globals.get("__name__", "").partition(".")[0] not in ("torch", "gradcheck_lint"):
            found.append(frame)
        frame = frame.f_back
    return found if frame is not None else []
