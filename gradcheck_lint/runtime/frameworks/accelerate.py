"""`AccelerateWatch`: `watch` for what an Accelerator has prepared."""

from __future__ import annotations

from typing import Any

from gradcheck_lint.errors import ConfigError
from gradcheck_lint.runtime.watch import watch


class AccelerateWatch(watch):
    """Watch the optimizers and models that an Accelerator has prepared; the options of `watch`.

        model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
        with AccelerateWatch(accelerator):
            train()

    `watch(optimizer)` does as well: of an optimizer that Accelerate has wrapped it watches the one that steps.
    """

    def __init__(self, accelerator: Any, **options: Any) -> None:
        optimizers = getattr(accelerator, "_optimizers", None)
        if not optimizers:
            raise ConfigError("the Accelerator has no optimizer yet: call `accelerator.prepare` first")
        models = list(getattr(accelerator, "_models", None) or ())
        super().__init__(*optimizers, **{"model": models or None, **options})
