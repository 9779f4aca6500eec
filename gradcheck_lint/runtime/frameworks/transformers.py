"""`TransformersWatch`: a callback for the Trainer of Hugging Face's transformers."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from gradcheck_lint.runtime.frameworks.training import Training

if TYPE_CHECKING:
    from gradcheck_lint.runtime.watch import watch


def _callback() -> Any:
    try:
        return importlib.import_module("transformers").TrainerCallback
    except ImportError as error:
        raise ImportError("TransformersWatch needs the package transformers: pip install transformers") from error


class TransformersWatch(_callback()):  # type: ignore[misc]
    """Watch the optimizer of a Trainer while it trains; the options of `watch`.

        trainer = Trainer(model, args, train_dataset=data, callbacks=[TransformersWatch()])

    `run` is the `watch` of the latest `train`, which has the findings. The Trainer tells no callback of an exception:
    what was found until then is told when the program ends.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self._training = Training(options)

    @property
    def run(self) -> watch | None:
        return self._training.run

    def on_train_begin(
        self, args: Any, state: Any, control: Any, model: Any = None, optimizer: Any = None, **others: Any
    ) -> None:
        models = (model,) if model is not None else ()
        self._training.begin((optimizer,) if hasattr(optimizer, "param_groups") else (), *models)

    def on_train_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        self._training.end()
