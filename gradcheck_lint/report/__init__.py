"""One module per output format, each with `render(result, *, colour=False, sources={}) -> str`.

`sources` are the texts that the findings point into, by the path that a Span gives (`Result.sources`); what is not
in it is told without its code. A text that is rendered is empty or ends with a newline. Nothing here prints.
"""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradcheck_lint.result import Result

FORMATS = (
    "text",
    "concise",
    "grouped",
    "json",
    "json-lines",
    "github",
    "gitlab",
    "azure",
    "junit",
    "rdjson",
    "pylint",
    "sarif",
)
"""What `--output-format` takes; each is the name of a module of this package, with an underscore for a hyphen."""

_SUFFIXES = {
    ".sarif": ("sarif",),
    ".json": ("json", "gitlab", "sarif", "rdjson"),
    ".jsonl": ("json-lines",),
    ".xml": ("junit",),
}
"""What the name of a file says of the format of what is in it, the likeliest first."""

NO_SOURCES: Mapping[str, str] = MappingProxyType({})


class Renderer(Protocol):
    """The function `render` of a format. That of `sarif` also takes `pages`, the rules' pages by code."""

    def __call__(self, result: Result, *, colour: bool = ..., sources: Mapping[str, str] = ...) -> str: ...


def format_of(file: str, configured: str) -> str:
    """The format for a file that somebody names: the configured one, unless the name says another."""
    fitting = next((formats for suffix, formats in _SUFFIXES.items() if file.lower().endswith(suffix)), ())
    return fitting[0] if fitting and configured not in fitting else configured


def renderer(name: str) -> Renderer:
    """The renderer of the format `name`; only its module is imported."""
    return cast("Renderer", import_module(f"{__name__}.{name.replace('-', '_')}").render)
