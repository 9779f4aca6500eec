"""Whose code runs. Rules are code, and the settings that name a folder of rules come with the code that is linted.

So a folder of rules is run only if the user says so where no linted repository can: by an option, by a variable of the
environment, or in a list in their own folder of settings. Installed packs of rules need none of this: the user has
installed them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from gradcheck_lint import files, places
from gradcheck_lint.errors import ConfigError, shown

if TYPE_CHECKING:
    from collections.abc import Iterable

OPTION = "--allow-rule-folders"
VARIABLE = "GRADLINT_ALLOW_RULE_FOLDERS"

_WORDS = {"1": True, "true": True, "yes": True, "on": True, "": False, "0": False, "false": False, "no": False} | {
    "off": False
}


def user_list() -> Path:
    """The user's list of trusted folders, one a line; `#` begins a remark."""
    return places.user_config() / "trusted-folders"


def parted(folders: Iterable[Path], *, allow: bool) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """The folders whose rules may be run, and those for which nobody has vouched."""
    folders = tuple(folders)
    if allow or _said():
        return folders, ()
    known = _listed()
    trusted = tuple(folder for folder in folders if any(_lies_in(folder, other) for other in known))
    return trusted, tuple(folder for folder in folders if folder not in trusted)


def told(folder: Path) -> str:
    """What to tell about a folder that was left out: one line, with the way to allow it."""
    return (
        f"the rules in {shown(folder)} were left out, because what a project names runs only if you allow it:"
        f" {OPTION}, or {VARIABLE}=1, or the line {folder} in {user_list()}"
    )


def _said() -> bool:
    word = os.environ.get(VARIABLE, "").strip().lower()
    if word not in _WORDS:
        raise ConfigError(f'{VARIABLE} is "{word}"; it has to be 1 or 0')
    return _WORDS[word]


def _listed() -> list[str]:
    path = user_list()
    try:
        lines = files.read_regular(path, files.LARGEST_SETTINGS).decode("utf-8-sig").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8'}") from None
    said = [line.strip() for line in lines]
    named = [os.path.expanduser(line) for line in said if line and not line.startswith("#")]
    return [_whole(name) for name in named if os.path.isabs(name)]


def _lies_in(folder: Path, other: str) -> bool:
    """Whether a folder is `other` or lies in it, wherever links lead."""
    return files.lies_in(_whole(folder), [other])


def _whole(path: str | Path) -> str:
    return os.path.normcase(os.path.realpath(path))
