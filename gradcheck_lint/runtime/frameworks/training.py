"""What the callbacks share: a `watch` that begins and ends with a framework's training."""

from __future__ import annotations

import atexit
import contextlib
from typing import TYPE_CHECKING, Any

from gradcheck_lint.runtime.watch import watch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch.nn import Module
    from torch.optim import Optimizer


class Training:
    """Holds the options of `watch`, and the `watch` of the training that runs or ran last.

    A training that ends without a word, by an exception that its framework tells nobody, is ended when the next one
    begins, or with the program.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        watch(**options).ready()  # options that make no sense are refused here, and not when training begins
        self.options = options
        self.run: watch | None = None
        self._on = False

    def begin(self, optimizers: Iterable[Optimizer], *models: Module) -> None:
        self.end()
        self.run = watch(*optimizers, model=models, **self.options)
        self.run.__enter__()
        self._on = True
        atexit.register(self.end)

    def end(self, error: BaseException | None = None) -> None:
        if self._on and self.run is not None:
            self._on = False
            with contextlib.suppress(Exception):
                atexit.unregister(self.end)
            self.run.__exit__(type(error) if error is not None else None, error, None)

    def __getstate__(self) -> dict[str, Any]:
        """Callbacks are pickled where a framework starts processes; a run is not."""
        return {"options": self.options, "run": None, "_on": False}
