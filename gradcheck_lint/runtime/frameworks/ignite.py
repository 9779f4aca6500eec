"""`IgniteWatch`: a handler for the engines of PyTorch-Ignite."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from gradcheck_lint.runtime.frameworks.training import Training

if TYPE_CHECKING:
    from torch.nn import Module
    from torch.optim import Optimizer

    from gradcheck_lint.runtime.watch import watch


class IgniteWatch:
    """Watch optimizers from the start of an engine's run to its end; the options of `watch`.

        IgniteWatch(optimizer, model=model).attach(trainer)

    Without an optimizer those are watched that are built during the run. An exception is left to the engine, and what
    was found until then is told when the program ends.
    """

    def __init__(self, *optimizers: Optimizer, model: Module | None = None, **options: Any) -> None:
        self._optimizers = optimizers
        self._models = (model,) if model is not None else ()
        self._training = Training(options)

    @property
    def run(self) -> watch | None:
        return self._training.run

    def attach(self, engine: Any) -> IgniteWatch:
        try:
            events = importlib.import_module("ignite.engine").Events
        except ImportError as error:
            raise ImportError("IgniteWatch needs the package pytorch-ignite: pip install pytorch-ignite") from error
        engine.add_event_handler(events.STARTED, lambda: self._training.begin(self._optimizers, *self._models))
        for event in (events.COMPLETED, events.TERMINATE, events.INTERRUPT):
            engine.add_event_handler(event, lambda: self._training.end())
        return self
