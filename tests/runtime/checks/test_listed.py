"""Every check of the folders has its place in the list, and nothing else."""

from __future__ import annotations

import importlib
from pathlib import Path

from gradcheck_lint.runtime import checks
from gradcheck_lint.runtime.check import Check
from gradcheck_lint.runtime.checks.listed import CHECKS

HOME = Path(checks.__file__).parent


def test_every_check_is_listed() -> None:
    names = [".".join(file.relative_to(HOME).with_suffix("").parts) for file in HOME.rglob("*.py")]
    modules = [importlib.import_module(f"{checks.__name__}.{name}".removesuffix(".__init__")) for name in names]
    things = [(thing, module) for module in modules for thing in vars(module).values() if isinstance(thing, type)]
    found = {one for one, module in things if issubclass(one, Check) and one.__module__ == module.__name__}
    assert found == set(CHECKS)
    assert len(found) == len(CHECKS)
