"""All that is known of libraries, put together."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from gradcheck_lint.source import libraries
from gradcheck_lint.source.libraries import outside
from gradcheck_lint.source.run.library import FUNCTIONS, METHODS
from gradcheck_lint.source.run.machine import Library


@cache
def library() -> Library:
    """All that the modules of this folder have entered."""
    for module in iter_modules(libraries.__path__):
        import_module(f"{libraries.__name__}.{module.name}")
    return Library(FUNCTIONS, METHODS, outside.external, outside.method)
