"""`LightningWatch`: a callback for the Trainer of Lightning, as `lightning` or as `pytorch_lightning`."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from gradcheck_lint.runtime.frameworks.training import Training

if TYPE_CHECKING:
    from gradcheck_lint.runtime.watch import watch


def _callback() -> Any:
    """The class that Lightning's own callbacks have, of the package that the program uses."""
    older = "pytorch_lightning" in sys.modules and "lightning.pytorch" not in sys.modules
    names = ["lightning.pytorch", "pytorch_lightning"]
    for name in reversed(names) if older else names:
        try:
            return importlib.import_module(name).Callback
        except ImportError:
            continue
    raise ImportError("LightningWatch needs the package lightning: pip install lightning")


class LightningWatch(_callback()):  # type: ignore[misc]
    """Watch the optimizers of a Trainer from the first batch of `fit` to the last; the options of `watch`.

        trainer = lightning.Trainer(callbacks=[LightningWatch()])

    Works for automatic and manual optimisation, with any precision, accumulation and number of optimizers. `run` is
    the `watch` of the latest `fit`, which has the findings.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self._training = Training(options)

    @property
    def run(self) -> watch | None:
        return self._training.run

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._training.begin(trainer.optimizers, pl_module)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self._training.end()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self._training.end(exception)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        self._training.end()
