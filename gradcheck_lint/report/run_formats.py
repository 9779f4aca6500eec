"""The formats in which a watched run is told, and where they go."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, cast

from gradcheck_lint.errors import ConfigError
from gradcheck_lint.files import is_source, write_report

if TYPE_CHECKING:
    from gradcheck_lint.runtime.record import RunRecord

FORMATS = ("text", "json", "html")
_BY_SUFFIX = {".json": "json", ".html": "html", ".htm": "html"}


def choose(form: str | None, file: str | None, *, stdout: bool) -> str:
    """The format that was asked for, or that the file's name says; raises ConfigError if there is nowhere to put it.

    `stdout` says whether there is a standard output that belongs to nobody else.
    """
    if file is not None and is_source(file):
        raise ConfigError(f"{file} looks like source code; choose another file")
    suffix = _BY_SUFFIX.get(Path(file).suffix.lower(), "text") if file is not None else "text"
    chosen = form or suffix
    if file is None and chosen != "text" and not stdout:
        raise ConfigError(f"say where to put the {chosen}: --output-file run.{chosen} (the program writes to stdout)")
    if file is not None and file != "-":
        path = Path(file)
        if path.is_dir():
            raise ConfigError(f"{file} is a folder; name a file in it")
        if not path.parent.is_dir():
            raise ConfigError(f"{file} cannot be written: there is no folder {path.parent}")
    return chosen


def render(record: RunRecord, form: str, *, colour: bool = False, brief: bool = False) -> str:
    """The run in a format; only its module is imported."""
    module = import_module(f"gradcheck_lint.report.run_{form}")
    if form == "text":
        return cast("str", module.render(record, colour=colour, brief=brief))
    return cast("str", module.render(record))


def write(record: RunRecord, form: str, file: str) -> None:
    """Put it into a file, `-` for stdout; raises ConfigError if that cannot be."""
    text = render(record, form)
    if file == "-":
        import sys

        sys.stdout.write(text)
        sys.stdout.flush()
        return
    try:
        write_report(file, text)
    except OSError as error:
        raise ConfigError(f"{file} cannot be written: {error.strerror or error}") from None
