"""`[tool.gradlint]` in pyproject.toml, or a `gradlint.toml` of its own, as frozen Settings.

The nearest configuration going up from the first path counts, and only that one. A key or a value that gradlint
does not know is an error of one line: a setting that is silently ignored is a check that silently does not run.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradcheck_lint import files
from gradcheck_lint.finding import Confidence
from gradcheck_lint.report import FORMATS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

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


class ConfigError(ValueError):
    """The user asked for something that cannot be; the message is one line that says what to do."""


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
    cache: bool = True
    cache_dir: Path | None = None  # None: in the user's own folder for caches
    cache_origin: str = ""  # what names that folder, for messages
    root: Path = Path()
    source: Path | None = None  # the file that these settings come from


def find(start: Path) -> Path | None:
    """The nearest configuration in the folder `start` or above it; a pyproject.toml counts if it speaks of us."""
    for folder in (start, *start.parents):
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
    try:
        data = files.read_regular(path, files.LARGEST_SETTINGS)
    except OSError as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
        raise ConfigError(f"the configuration {shown(path)} {reason}") from None
    table = _ours(_parse(path, data), path)
    return _vouched(_settings({} if table is None else table, path), allow_rule_folders)


def read(
    paths: Iterable[str], *, config: Path | None = None, isolated: bool = False, allow_rule_folders: bool = False
) -> Settings:
    """The settings for linting `paths`: those of `config`, else of the nearest configuration, else the defaults."""
    if isolated:
        return Settings(root=Path.cwd())
    if config is not None:
        return load(config, allow_rule_folders=allow_rule_folders)
    first = next((path for path in paths if path != "-"), ".")
    start = Path(first).absolute()
    # `resolve` would leave the folder that the user sees when the path is a link; `..` has to go all the same
    start = Path(_normal(start if start.is_dir() else start.parent))
    found = find(start)
    return Settings(root=Path.cwd()) if found is None else load(found, allow_rule_folders=allow_rule_folders)


def on_top(settings: Settings, selection: Selection, **changes: Any) -> Settings:
    """`settings` with what the command line says laid over them; `None` means that it says nothing."""
    said = {name: value for name, value in changes.items() if value is not None}
    selections = settings.selections
    if selection.select is not None or selection.extend_select or selection.ignore:
        selections = (*selections, selection)
    return replace(settings, selections=selections, **said)


def nearest(word: str, known: Iterable[str]) -> str:
    """The beginning of a hint, `; did you mean "exclude"?`, or nothing where no known word is near."""
    from difflib import get_close_matches

    near = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f'; did you mean "{near[0]}"?' if near else ""


def shown(path: Path) -> str:
    """`path` as it is told to people: from the working directory if it lies there, with forward slashes."""
    try:
        return path.absolute().relative_to(Path.cwd()).as_posix()
    except ValueError:
        return path.as_posix()


def _normal(path: Path) -> str:
    import os

    return os.path.normpath(path)


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


_LEVELS = tuple(str(level) for level in Confidence)

_KEYS: dict[str, Callable[[Any], Any]] = {
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
    "unsafe-fixes": _truth,
}


def _settings(table: Mapping[str, Any], path: Path) -> Settings:
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
    if "cache_dir" in values:
        values["cache_dir"] = root / values["cache_dir"]
        values["cache_origin"] = f"cache-dir in {shown(path)}"
    return Settings(selections=(selection,), root=root, source=path, **values)
