"""Watching under a framework that holds the training loop: one public name for each.

    from gradcheck_lint.frameworks import LightningWatch, TransformersWatch, AccelerateWatch, IgniteWatch

A framework is imported when its name is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradcheck_lint.runtime.frameworks.accelerate import AccelerateWatch
    from gradcheck_lint.runtime.frameworks.ignite import IgniteWatch
    from gradcheck_lint.runtime.frameworks.lightning import LightningWatch
    from gradcheck_lint.runtime.frameworks.transformers import TransformersWatch

_HOMES = {
    "AccelerateWatch": "accelerate",
    "IgniteWatch": "ignite",
    "LightningWatch": "lightning",
    "TransformersWatch": "transformers",
}

__all__ = ["AccelerateWatch", "IgniteWatch", "LightningWatch", "TransformersWatch"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"gradcheck_lint.runtime.frameworks.{_HOMES[name]}"), name)
