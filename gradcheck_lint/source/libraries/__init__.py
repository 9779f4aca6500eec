"""What is known of libraries: one module for each area, found as rules are found.

A function is taught with one entry, `@function("torch.nn.Parameter")` over what it gives, a method with
`@method("zero_grad")`: see CONTRIBUTING.md.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from gradcheck_lint.source.run.library import FUNCTIONS, METHODS
from gradcheck_lint.source.run.machine import Library


@cache
def library() -> Library:
    """All that the modules of this folder have entered."""
    for module in iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")
    from gradcheck_lint.source.libraries import outside

    return Library(FUNCTIONS, METHODS, outside.external, outside.method)
