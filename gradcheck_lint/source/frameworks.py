"""Frameworks whose own source is not followed from user code, wherever it lies: their public names are known.

A project may hold the source of Accelerate or Lightning beside its own: vendored, as a submodule, or because it is that
framework's repository, with its tests and examples. Whoever imports it means the public names, and what those do to the
gradient cycle is known better than can be read out of thousands of lines: `torch_api` has the classes and the wrappers,
`libraries` the methods (`accelerator.backward`, `fabric.clip_gradients`), `touch.KNOWN` what is left alone. Inside of
the package itself all is followed as in any project, so that linting it judges its functions.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

LAYOUT = {
    "accelerate": ("accelerator.py", "state.py"),
    "deepspeed": ("runtime/engine.py", "runtime/zero/__init__.py"),
    "ignite": ("engine/engine.py", "handlers/__init__.py"),
    "lightning": ("pytorch/trainer/trainer.py", "fabric/fabric.py"),
    "lightning_fabric": ("fabric.py", "strategies/__init__.py"),
    "pytorch_lightning": ("trainer/trainer.py", "core/module.py"),
    "torch": ("nn/modules/module.py", "optim/optimizer.py"),
    "transformers": ("modeling_utils.py", "trainer.py"),
}
"""Files that a package of this name has if it is that framework, and not a module of the user's that is called so."""


KEEPS_THE_CYCLE = frozenset({"deepspeed"})
"""Frameworks whose engines and optimizers clear gradients by themselves, when they have used them: with those that
`deepspeed.initialize` gives back, `engine.step()` is all of clipping, unscaling, stepping and clearing."""


def keeps_the_cycle(name: str) -> bool:
    """Whether what a function of this full name gives back clears gradients by itself."""
    return name.partition(".")[0] in KEEPS_THE_CYCLE


class Framework(NamedTuple):
    """A framework that a file belongs to."""

    folder: str  # of the package
    name: str  # of the module that the file is: `lightning.pytorch.callbacks`

    def holds(self, folder: str) -> bool:
        """Whether a folder is in the package."""
        return folder == self.folder or folder.startswith(self.folder + os.sep)


def of(path: str, is_file: Callable[[str], bool] = os.path.isfile) -> Framework | None:
    """The framework that a module belongs to, by its full path; None if it is the user's own."""
    parts = path.split(os.sep)
    for index, part in enumerate(parts):
        if part not in LAYOUT:
            continue
        folder = os.sep.join(parts[: index + 1])
        if all(is_file(os.path.join(folder, *mark.split("/"))) for mark in LAYOUT[part]):
            inner = os.path.splitext(os.sep.join(parts[index:]))[0].split(os.sep)
            return Framework(folder, ".".join(inner[:-1] if inner[-1] == "__init__" else inner))
    return None
