"""What is told to a user who asked for something that cannot be."""

from __future__ import annotations

from pathlib import Path


class ConfigError(ValueError):
    """The user asked for something that cannot be; the message is one line that says what to do."""


def shown(path: Path) -> str:
    """`path` as it is told to people: from the working directory if it lies there, with forward slashes."""
    try:
        return path.absolute().relative_to(Path.cwd()).as_posix()
    except ValueError:
        return path.as_posix()
