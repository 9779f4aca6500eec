"""Which files are linted: from the arguments of the command to a sorted list without doubles.

A file that is named is taken, whatever it is called, save a notebook, whose cells are not read yet. In a folder every
`*.py` counts, except what the default excludes, the configuration or a `.gitignore` leave out; notebooks and links that
lead nowhere, or out, are skipped and counted there. Folders are left out before they are entered. Links to folders are
not followed, so a loop of links cannot trap the walk, and a link to a file counts as the file. It leads out if that
lies neither in the folder that was named, nor in its repository, nor in the working directory: a repository can hold a
link to any file, and what is found there would be quoted.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gradcheck_lint.errors import ConfigError, shown
from gradcheck_lint.files import LARGEST_SETTINGS, OddFileError, TooLargeError, handed_over, lies_in, read_regular
from gradcheck_lint.result import Skipped

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pathspec import GitIgnoreSpec

    from gradcheck_lint.config import Settings

STARS = 4
"""How many a pattern may have. With six of them one name of 200 letters would take years (pathspec 1.1)."""

NOTEBOOK = ".ipynb"

_NOWHERE = frozenset({errno.ENOENT, errno.ENOTDIR})

_MAGIC = frozenset("*?[]!\\/ ")


@dataclass(frozen=True, slots=True)
class Found:
    """A file to lint, or, with a `reason`, a file or folder that cannot be read."""

    path: str  # as it is shown: relative to the working directory where it lies there, forward slashes
    real: Path
    reason: str = ""
    named: bool = False  # somebody named it, whatever it is called


def discover(paths: Sequence[str], settings: Settings) -> list[Found]:
    """The files that `paths` stand for; raises ConfigError where one does not exist."""
    return survey(paths, settings)[0]


def survey(paths: Sequence[str], settings: Settings) -> tuple[list[Found], Skipped]:
    """The same, with what was skipped in the folders."""
    walk = _Walk(settings)
    for path in paths or (".",):
        walk.start(path)
    skipped = Skipped(notebooks=len(walk.notebooks), links=len(walk.links))
    return sorted(walk.found.values(), key=lambda found: found.path), skipped


def refuse_notebook(path: str) -> None:
    """Raise ConfigError for what nobody here can read yet: the text of a notebook is JSON."""
    if path.endswith(NOTEBOOK):
        raise ConfigError(
            f"{path} is a notebook, and its cells are not read yet; `jupyter nbconvert --to script` makes a file of it"
        )


def reason_of(error: OSError) -> str:
    """Why a file cannot be read, in a few words: what the system says, without the number and the path."""
    return (error.strerror or type(error).__name__).lower()


def excluded(path: Path, settings: Settings) -> bool:
    """Whether the configuration leaves out `path` or a folder that it lies in; `.gitignore` files are not asked."""
    for each in _speaking(settings, str(path.parent)):
        relative = within(path, each.root)
        names = _Names(each)
        if any(part in names.plain for part in relative.split("/")) or names.matches(relative):
            return True
    return False


def _speaking(settings: Settings, folder: str) -> list[Settings]:
    """The settings whose excludes count in a folder: those above all paths, and the nearest."""
    nearest = settings if settings.nested is None else settings.nested.plain(folder, settings)
    return [*settings.lineage(), *(nearest.lineage() if nearest is not settings else ())]


def within(path: str | Path, root: Path) -> str:
    """`path` as patterns see it: relative to `root` where it lies there, else whole, without its first slash."""
    text, base = os.path.abspath(path), os.path.abspath(root)
    if text == base:
        return "."
    prefix = base if base.endswith(os.sep) else base + os.sep
    text = text[len(prefix) :] if text.startswith(prefix) else text.lstrip(os.sep)
    return _slashes(text)


def _slashes(path: str) -> str:
    return path.replace(os.sep, "/") if os.sep != "/" else path


class _Names:
    """The excludes of the settings: plain names, which are most of them, apart from patterns."""

    def __init__(self, settings: Settings) -> None:
        words = (*settings.exclude, *settings.extend_exclude)
        self.plain = frozenset(word for word in words if not _MAGIC & set(word) and not word.startswith("#"))
        rest = [word for word in words if word not in self.plain]
        for word in rest:
            if not is_pattern(word):
                kind = f"no pattern as .gitignore has them, with at most {STARS} stars"
                raise ConfigError(f'"{word}" in exclude or extend-exclude is {kind}')
        self._spec = _spec(rest) if rest else None

    @property
    def has_patterns(self) -> bool:
        return self._spec is not None

    def matches(self, relative: str) -> bool:
        return self._spec is not None and self._spec.match_file(relative)


class _Scope:
    """What is left out in a folder of the walk, by the settings that count there."""

    def __init__(self, plain: frozenset[str], patterns: tuple[tuple[_Names, str], ...], source: Path | None) -> None:
        self.plain = plain
        self._patterns = patterns  # with the folder, relative to the root of their settings
        self.source = source

    @classmethod
    def of(cls, settings: Sequence[Settings], folder: str, source: Path | None) -> _Scope:
        """That of settings, from `folder` on. Patterns that speak of this folder itself are not asked."""
        plain: frozenset[str] = frozenset()
        patterns: list[tuple[_Names, str]] = []
        for each in settings:
            names = _Names(each)
            plain |= names.plain
            relative = within(folder, each.root)
            if names.has_patterns and not names.matches(relative + "/"):
                patterns.append((names, "" if relative == "." else relative + "/"))
        return cls(plain, tuple(patterns), source)

    def leaves_out(self, name: str) -> bool:
        return any(names.matches(base + name) for names, base in self._patterns)

    def inside(self, name: str) -> _Scope:
        """The same in the folder `name` of this one."""
        if not self._patterns:
            return self
        return _Scope(self.plain, tuple((names, f"{base}{name}/") for names, base in self._patterns), self.source)

    def with_(self, other: _Scope) -> _Scope:
        return _Scope(self.plain | other.plain, self._patterns + other._patterns, other.source)


class _Walk:
    """One run of discovery; `found` grows by the real path of each file."""

    def __init__(self, settings: Settings) -> None:
        self.found: dict[str, Found] = {}
        self.notebooks: set[str] = set()  # by their real paths
        self.links: set[str] = set()  # those that lead nowhere, or out
        self._settings = settings
        for each in settings.lineage():
            _Names(each)  # raises what is wrong with them
        self._here = os.getcwd()
        self._ignores: dict[str, GitIgnoreSpec | None] = {}

    def start(self, path: str) -> None:
        """Take `path`, which somebody named."""
        if not path:
            raise ConfigError('"" is no path; leave it out, or write "." for the working directory')
        whole = os.path.abspath(path)
        try:
            mode = os.stat(whole).st_mode
        except (FileNotFoundError, NotADirectoryError):
            raise ConfigError(f'"{_slashes(path)}" does not exist') from None
        except OSError as error:
            self._add(whole, self._shown(path, whole), reason_of(error))
            return
        except ValueError:
            raise ConfigError("a path has a NUL character in it") from None
        if self._settings.force_exclude and excluded(Path(whole), self._settings):
            return
        shown = self._shown(path, whole)
        if stat.S_ISDIR(mode):
            self._folder(whole, shown)
            return
        refuse_notebook(shown)
        if stat.S_ISREG(mode) or (stat.S_ISFIFO(mode) and handed_over(whole)):
            self._add(whole, shown, named=not handed_over(whole))
        else:
            self._add(whole, shown, "not a regular file")

    def _shown(self, path: str, whole: str) -> str:
        prefix = self._here if self._here.endswith(os.sep) else self._here + os.sep
        if whole == self._here:
            return "."
        if whole.startswith(prefix):
            return _slashes(whole[len(prefix) :])
        return _slashes(whole if os.path.isabs(path) else os.path.normpath(path))

    def _add(self, whole: str, shown: str, reason: str = "", *, named: bool = False) -> None:
        key = os.path.realpath(whole)
        self._note(key, Found(shown, Path(whole), reason, named))

    def _note(self, key: str, found: Found) -> None:
        there = self.found.get(key)
        if there is None or (found.path != there.path and self._rank(key, found) < self._rank(key, there)):
            self.found[key] = found

    @staticmethod
    def _rank(key: str, found: Found) -> tuple[bool, str]:
        """The file itself before a link to it, then the first path in order."""
        return (str(found.real) != key, found.path)

    def _folder(self, top: str, shown: str) -> None:
        """Walk the folder `top`. Excludes that speak of `top` itself are not asked: it was named."""
        scope = _Scope.of(_speaking(self._settings, top), top, self._nearest(top).source)
        above = self._above(top) if self._settings.respect_gitignore else ()
        outer = [spec for spec in above if not _ignored([spec], top, folder=True)]
        real = os.path.realpath(top)
        homes = tuple({real, os.path.realpath(self._here), os.path.realpath(_repository(top) or top)})
        prefix = "" if shown == "." else (shown if shown.endswith("/") else shown + "/")
        stack = [(top, real, prefix, scope, outer)]
        while stack:
            folder, real, prefix, scope, ignores = stack.pop()
            try:
                with os.scandir(folder) as entries:
                    inside = list(entries)
            except OSError as error:
                self._note(real, Found(prefix.rstrip("/") or ".", Path(folder), reason_of(error)))
                continue
            nearest = self._nearest(folder)
            if nearest.source != scope.source:  # its excludes count from here on, beside those from above
                scope = scope.with_(_Scope.of(list(nearest.lineage()), folder, nearest.source))
            if self._settings.respect_gitignore and any(entry.name == ".gitignore" for entry in inside):
                spec = self._ignore_file(folder)
                if spec is not None:
                    ignores = [*ignores, (folder, spec)]
            for entry in inside:
                name = entry.name
                if name in scope.plain:
                    continue
                is_folder = _is_folder(entry)
                if not is_folder and (not name.endswith((".py", NOTEBOOK)) or name.startswith(".#")):  # a lock of Emacs
                    continue
                if scope.leaves_out(f"{name}/" if is_folder else name):
                    continue
                if ignores and _ignored(ignores, entry.path, folder=is_folder):
                    continue
                if is_folder:
                    below = "" if entry.path == self._here else f"{prefix}{name}/"
                    stack.append((entry.path, os.path.join(real, name), below, scope.inside(name), ignores))
                elif name.endswith(NOTEBOOK):
                    self.notebooks.add(os.path.join(real, name))
                else:
                    self._entry(entry, os.path.join(real, name), prefix + name, homes)

    def _nearest(self, folder: str) -> Settings:
        nested = self._settings.nested
        return self._settings if nested is None else nested.plain(folder, self._settings)

    def _entry(self, entry: os.DirEntry[str], real: str, shown: str, homes: tuple[str, ...]) -> None:
        """Take a file that the walk came by; a link only if it leads into one of the homes."""
        link = entry.is_symlink()
        try:
            if not link:
                if entry.is_file(follow_symlinks=False):
                    self._note(real, Found(shown, Path(entry.path)))
                return
            mode = os.stat(entry.path).st_mode
        except OSError as error:
            if link and error.errno in _NOWHERE:
                self.links.add(real)
                return
            self._add(entry.path, shown, reason_of(error))
            return
        if not lies_in(os.path.realpath(entry.path), homes):
            self.links.add(real)
        elif stat.S_ISREG(mode):
            self._add(entry.path, shown)
        elif not stat.S_ISDIR(mode):
            self._add(entry.path, shown, "not a regular file")

    def _above(self, top: str) -> Iterator[tuple[str, GitIgnoreSpec]]:
        """The `.gitignore` files of the folders above `top`, up to the root of its repository."""
        repository = _repository(top)
        folders = []
        folder = top
        while repository is not None and folder != repository:
            folder = os.path.dirname(folder)
            folders.append(folder)
        for folder in reversed(folders):
            spec = self._ignore_file(folder)
            if spec is not None:
                yield folder, spec

    def _ignore_file(self, folder: str) -> GitIgnoreSpec | None:
        if folder not in self._ignores:
            path = os.path.join(folder, ".gitignore")
            lines: list[str] = []
            try:
                text = read_regular(path, LARGEST_SETTINGS).decode("utf-8-sig", "surrogateescape")
                lines = re.split("\r\n|\r|\n", text)
            except (OddFileError, TooLargeError) as error:
                advice = "mend it, or say --no-respect-gitignore"
                raise ConfigError(f"{shown(Path(path))} cannot be read: {error.strerror}; {advice}") from None
            except OSError:
                pass
            self._ignores[folder] = _spec(lines) if any(line.strip() for line in lines) else None
        return self._ignores[folder]


def _repository(folder: str) -> str | None:
    """The folder or the nearest above it that holds a `.git`."""
    while not os.path.exists(os.path.join(folder, ".git")):
        above = os.path.dirname(folder)
        if above == folder:
            return None
        folder = above
    return folder


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False) and not getattr(entry, "is_junction", bool)()
    except OSError:
        return False


def _ignored(ignores: Iterable[tuple[str, GitIgnoreSpec]], path: str, *, folder: bool) -> bool:
    """What the `.gitignore` files say of `path`; the one that lies nearest decides."""
    for root, spec in reversed(list(ignores)):
        relative = _slashes(path[len(root) + (not root.endswith(os.sep)) :]) + ("/" if folder else "")
        include = spec.check_file(relative).include
        if include is not None:
            return include
    return False


def _spec(lines: Sequence[str]) -> GitIgnoreSpec:
    """The patterns in `lines`, those left out that are none, as git does."""
    from pathspec import GitIgnoreSpec

    lines = [line for line in lines if not _takes_too_long(line)]
    try:
        return GitIgnoreSpec.from_lines(lines)
    except ValueError:
        return GitIgnoreSpec.from_lines([line for line in lines if is_pattern(line)])


_FOLDERS = re.compile(r"(?:^|(?<=/))\*\*(?=/|$)")


def _takes_too_long(line: str) -> bool:
    """Whether a pattern has so many stars that no name may ever be compared: each makes it slower by the length."""
    return line.count("*") > STARS and _FOLDERS.sub("*", line).count("*") > STARS


def is_pattern(line: str) -> bool:
    """Whether `line` is a pattern as `.gitignore` files have them, and one that can be used."""
    from pathspec import GitIgnoreSpec

    if _takes_too_long(line):
        return False
    try:
        GitIgnoreSpec.from_lines([line])
    except ValueError:
        return False
    return True
