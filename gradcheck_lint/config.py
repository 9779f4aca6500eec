"""`[tool.gradlint]` in pyproject.toml, or a `gradlint.toml` of its own, as frozen Settings.

For each file the nearest configuration counts, going up from its folder, and with it those that it extends; what is no
matter of one file (the format, the cache) is taken from the nearest one above all paths. A key or a value that gradlint
does not know is an error of one line: a setting that is silently ignored is a check that silently does not run.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradcheck_lint import files
from gradcheck_lint.errors import ConfigError, shown
from gradcheck_lint.finding import Confidence
from gradcheck_lint.report import FORMATS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

NAMES = (".gradlint.toml", "gradlint.toml", "pyproject.toml")
"""Where a configuration may be, the strongest first; in pyproject.toml it is the table `[tool.gradlint]`."""

EXCLUDE = (
    ".bzr",
    ".direnv",
    ".eggs",
    ".git",
    ".gradlint_cache",
    ".hg",
    ".hypothesis",
    ".ipynb_checkpoints",
    ".mypy_cache",
    ".nox",
    ".pants.d",
    ".pyenv",
    ".pytest_cache",
    ".pytype",
    ".ruff_cache",
    ".svn",
    ".tox",
    ".venv",
    ".vscode",
    "__pycache__",
    "__pypackages__",
    "_build",
    "buck-out",
    "build",
    "dist",
    "node_modules",
    "site-packages",
    "venv",
)
"""What is left out unless `exclude` says otherwise: plain names, wherever they are."""


_CHAIN = 10  # configurations that extend one another


@dataclass(frozen=True, slots=True)
class Selection:
    """Which rules one place (a configuration, the command line) turns on and off. Each word is a code, the
    beginning of one, a slug or ALL."""

    select: tuple[str, ...] | None = None  # None: what was selected before it
    extend_select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    origin: str = ""  # for messages: "pyproject.toml", "the command line"
    of_project: bool = False  # it comes from a configuration


@dataclass(frozen=True, slots=True)
class Settings:
    """How to lint. Patterns are those of .gitignore files, relative to `root`."""

    selections: tuple[Selection, ...] = ()  # later ones build on the earlier
    min_confidence: Confidence = Confidence.HIGH
    exclude: tuple[str, ...] = EXCLUDE
    extend_exclude: tuple[str, ...] = ()
    force_exclude: bool = False  # also leave out files that are named on the command line
    respect_gitignore: bool = True
    per_file_ignores: tuple[tuple[str, tuple[str, ...]], ...] = ()  # pattern, rules
    rule_folders: tuple[Path, ...] = ()  # whose rules are run
    left_out: tuple[Path, ...] = ()  # rule folders that the configuration names and nobody has vouched for
    output_format: str = "text"
    unsafe_fixes: bool = False
    baseline: Path | None = None  # the file with the findings that are known and not told
    cache: bool = True
    cache_dir: Path | None = None  # None: in the user's own folder for caches
    cache_origin: str = ""  # what names that folder, for messages
    root: Path = Path()
    source: Path | None = None  # the file that these settings come from
    base: Settings | None = None  # what that file extends: its patterns are relative to its own root
    laid: tuple[tuple[Selection, tuple[tuple[str, Any], ...]], ...] = field(default=(), compare=False, repr=False)
    """What `on_top` has laid over them."""
    nested: Nearest | None = field(default=None, compare=False, repr=False)
    """What knows the settings of folders below; None: these count everywhere."""

    def at(self, folder: str | Path) -> Settings:
        """The settings for the files in a folder."""
        return self if self.nested is None else self.nested.at(folder, self)

    def lineage(self) -> Iterator[Settings]:
        """These, and those that they extend: each with the patterns that are relative to its own root."""
        each: Settings | None = self
        while each is not None:
            yield each
            each = each.base


class Nearest:
    """Knows for each folder the configuration that counts there, other than the one above all paths."""

    def __init__(self, *, allow_rule_folders: bool = False) -> None:
        self.loaded: dict[Path, Settings] = {}  # as they are in the files
        self._allow = allow_rule_folders
        self._found: dict[str, Path | None] = {}
        self._laid: dict[Path, Settings] = {}

    def plain(self, folder: str | Path, top: Settings) -> Settings:
        """The settings for a folder, without what the command line has laid over them."""
        path = self._find(os.path.abspath(folder))
        if path is None or path == top.source:
            return top
        if path not in self.loaded:
            self.loaded[path] = load(path, allow_rule_folders=self._allow)
        return self.loaded[path]

    def at(self, folder: str | Path, top: Settings) -> Settings:
        settings = self.plain(folder, top)
        if settings is top or settings.source is None:
            return top
        if settings.source not in self._laid:
            laid = settings
            for selection, changes in top.laid:
                laid = on_top(laid, selection, **dict(changes))
            self._laid[settings.source] = laid
        return self._laid[settings.source]

    def _find(self, folder: str) -> Path | None:
        way: list[str] = []
        found: Path | None = None
        while folder not in self._found:
            way.append(folder)
            found = _in_folder(Path(folder))
            above = os.path.dirname(folder)
            if found is not None or above == folder:
                break
            folder = above
        else:
            found = self._found[folder]
        self._found.update(dict.fromkeys(way, found))
        return found


def find(start: Path) -> Path | None:
    """The nearest configuration in the folder `start` or above it; a pyproject.toml counts if it speaks of us."""
    return next((path for folder in (start, *start.parents) if (path := _in_folder(folder)) is not None), None)


def _in_folder(folder: Path) -> Path | None:
    for name in NAMES:
        path = folder / name
        try:
            data = files.read_regular(path, files.LARGEST_SETTINGS)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            if name == "pyproject.toml" and not isinstance(error, (files.OddFileError, files.TooLargeError)):
                continue
            raise ConfigError(f"{shown(path)} cannot be read: {error.strerror}") from None
        if name != "pyproject.toml" or (b"gradlint" in data and _ours(_parse(path, data), path) is not None):
            return path
    return None


def load(path: Path, *, allow_rule_folders: bool = False) -> Settings:
    """The settings in the file `path`. The rule folders that it names count if the user has vouched for them."""
    return _vouched(_read(path), allow_rule_folders)


def _read(path: Path, extending: tuple[Path, ...] = ()) -> Settings:
    """The settings in a file; `extending` are the files that extend it."""
    try:
        data = files.read_regular(path, files.LARGEST_SETTINGS)
    except OSError as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
        origin = f", which {shown(extending[-1])} extends," if extending else ""
        raise ConfigError(f"the configuration {shown(path)}{origin} {reason}") from None
    table = _ours(_parse(path, data), path)
    return _settings({} if table is None else table, path, extending)


def read(
    paths: Iterable[str], *, config: Path | None = None, isolated: bool = False, allow_rule_folders: bool = False
) -> Settings:
    """The settings for linting `paths`: of `config`, else of the nearest one above all of them, else the defaults.

    Save where `config` names them, the files below may have nearer ones: `Settings.at`.
    """
    if isolated:
        return Settings(root=Path.cwd())
    if config is not None:
        return load(config, allow_rule_folders=allow_rule_folders)
    starts = {_folder_of(path) for path in paths if path != "-"} or {str(Path.cwd())}
    try:
        above: str | None = os.path.commonpath(starts)
    except ValueError:  # they lie on several drives
        above = None
    found = find(Path(above)) if above else None
    top = Settings(root=Path.cwd()) if found is None else load(found, allow_rule_folders=allow_rule_folders)
    return replace(top, nested=Nearest(allow_rule_folders=allow_rule_folders))


def _folder_of(path: str) -> str:
    start = Path(path).absolute()
    # `resolve` would leave the folder that the user sees when the path is a link; `..` has to go all the same
    return os.path.normpath(start if start.is_dir() else start.parent)


def on_top(settings: Settings, selection: Selection, **changes: Any) -> Settings:
    """`settings` with what the command line says laid over them; `None` means that it says nothing.

    What `extend_exclude` names is left out besides what was already.
    """
    said = {name: value for name, value in changes.items() if value is not None}
    laid = (*settings.laid, (selection, tuple(said.items())))
    selections = settings.selections
    if selection.select is not None or selection.extend_select or selection.ignore:
        selections = (*selections, selection)
    said["extend_exclude"] = (*settings.extend_exclude, *said.get("extend_exclude", ()))
    if "exclude" in said:
        said["base"] = _without_excludes(settings.base)
    return replace(settings, selections=selections, laid=laid, **said)


def nearest(word: str, known: Iterable[str]) -> str:
    """The beginning of a hint, `; did you mean "exclude"?`, or nothing where no known word is near."""
    from difflib import get_close_matches

    near = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f'; did you mean "{near[0]}"?' if near else ""


def _without_excludes(base: Settings | None) -> Settings | None:
    return None if base is None else replace(base, exclude=(), base=_without_excludes(base.base))


def _vouched(settings: Settings, allow: bool) -> Settings:
    """`settings` with those of its rule folders that may be run, the others left out."""
    if not settings.rule_folders:
        return settings
    from gradcheck_lint import trust

    trusted, left_out = trust.parted(settings.rule_folders, allow=allow)
    return replace(settings, rule_folders=trusted, left_out=left_out)


def _parse(path: Path, data: bytes) -> dict[str, Any]:
    import sys
    from importlib import import_module

    tomllib = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        document: dict[str, Any] = tomllib.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise ConfigError(f"{shown(path)} is not UTF-8, as TOML has to be") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{shown(path)} is not valid TOML: {error}") from None
    except (ValueError, RecursionError) as error:  # a number of 10,000 digits, brackets 10,000 deep
        raise ConfigError(f"{shown(path)} cannot be read: {str(error) or type(error).__name__}") from None
    return document


def _ours(document: Mapping[str, Any], path: Path) -> Mapping[str, Any] | None:
    """The table that is ours in `document`, or None where it has none."""
    if path.name != "pyproject.toml":
        return document
    tool = document.get("tool")
    table = tool.get("gradlint") if isinstance(tool, dict) else None
    if table is None or isinstance(table, dict):
        return table
    raise ConfigError(f"{shown(path)}: tool.gradlint has to be a table, [tool.gradlint]")


class _UnfitError(Exception):
    """A value is not what its key wants; the message says what that is."""


def _words(value: object) -> tuple[str, ...]:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    raise _UnfitError("a list of strings" + (f', such as ["{value}"]' if isinstance(value, str) else ""))


def _truth(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise _UnfitError("true or false")


def _inside(value: object) -> str:
    """A folder of the project's own. Settings come with the code that is linted, and name no other."""
    if isinstance(value, str) and value.strip():
        parts = value.replace("\\", "/").split("/")
        if parts[0] and ".." not in parts and ":" not in value and "\0" not in value and set(parts) - {"", "."}:
            return value
    raise _UnfitError("a folder below that of the configuration; --cache-dir or GRADLINT_CACHE_DIR name any other")


def _baseline(value: object) -> str:
    """A file of the project's own."""
    try:
        return _inside(value)
    except _UnfitError:
        raise _UnfitError("a file below the folder of the configuration; --baseline names any other") from None


def _one_of(words: Iterable[str]) -> Callable[[object], str]:
    known = tuple(words)

    def read_word(value: object) -> str:
        if isinstance(value, str) and value in known:
            return value
        hint = nearest(value, known) if isinstance(value, str) else ""
        raise _UnfitError("one of " + ", ".join(f'"{word}"' for word in known) + hint)

    return read_word


def _table(value: object) -> tuple[tuple[str, tuple[str, ...]], ...]:
    if not isinstance(value, dict):
        raise _UnfitError('a table of patterns and rules, such as {"tests/**" = ["GL101"]}')
    rows = []
    for pattern, rules in value.items():
        try:
            rows.append((pattern, _words(rules)))
        except _UnfitError:
            raise _UnfitError(f'a table of lists, but "{pattern}" has none') from None
    return tuple(rows)


def _file(value: object) -> str:
    if isinstance(value, str) and value.strip() and "\0" not in value:
        return value
    raise _UnfitError('the path of another configuration, such as "../gradlint.toml"')


_LEVELS = tuple(str(level) for level in Confidence)

_KEYS: dict[str, Callable[[Any], Any]] = {
    "extend": _file,
    "select": _words,
    "extend-select": _words,
    "ignore": _words,
    "exclude": _words,
    "extend-exclude": _words,
    "force-exclude": _truth,
    "respect-gitignore": _truth,
    "per-file-ignores": _table,
    "min-confidence": _one_of(_LEVELS),
    "rule-folders": _words,
    "output-format": _one_of(FORMATS),
    "cache-dir": _inside,
    "baseline": _baseline,
    "unsafe-fixes": _truth,
}


def _settings(table: Mapping[str, Any], path: Path, extending: tuple[Path, ...]) -> Settings:
    values: dict[str, Any] = {}
    for key, value in table.items():
        reader = _KEYS.get(key)
        if reader is None:
            raise ConfigError(f'{shown(path)}: unknown setting "{key}"{nearest(key, _KEYS)}')
        try:
            values[key.replace("-", "_")] = reader(value)
        except _UnfitError as error:
            raise ConfigError(f"{shown(path)}: {key} has to be {error}") from None
    root = path.absolute().parent
    base = _base(values.pop("extend", None), path, extending)
    selection = Selection(
        select=values.pop("select", None),
        extend_select=values.pop("extend_select", ()),
        ignore=values.pop("ignore", ()),
        origin=shown(path),
        of_project=True,
    )
    if "min_confidence" in values:
        values["min_confidence"] = Confidence.parse(values["min_confidence"])
    if "rule_folders" in values:
        values["rule_folders"] = tuple(root / folder for folder in values["rule_folders"])
    if "baseline" in values:
        values["baseline"] = root / values["baseline"]
    if "cache_dir" in values:
        values["cache_dir"] = root / values["cache_dir"]
        values["cache_origin"] = f"cache-dir in {shown(path)}"
    if base is None:
        return Settings(selections=(selection,), root=root, source=path, **values)
    # what is relative to the other root stays with the base
    inherited: dict[str, Any] = {"exclude": (), "extend_exclude": (), "per_file_ignores": ()}
    below = _without_excludes(base) if "exclude" in values else base
    if "per_file_ignores" in values:
        below = _without_ignores(below)
    own = inherited | values
    return replace(base, selections=(*base.selections, selection), root=root, source=path, base=below, **own)


def _without_ignores(base: Settings | None) -> Settings | None:
    return None if base is None else replace(base, per_file_ignores=(), base=_without_ignores(base.base))


def _base(name: str | None, path: Path, extending: tuple[Path, ...]) -> Settings | None:
    """The settings that the file `path` extends."""
    if name is None:
        return None
    other = Path(os.path.normpath(path.absolute().parent / name))
    chain = (*extending, path.absolute())
    if other in chain:
        raise ConfigError(f"{shown(path)}: extend leads back to {shown(other)}")
    if len(chain) > _CHAIN:
        raise ConfigError(f"{shown(path)}: more than {_CHAIN} configurations extend one another")
    return _read(other, chain)
