"""Which rules there are and which of them are on.

The folder `rules/` is mounted, not imported by name: it becomes the package `gradcheck_lint.rules` wherever it
lies, inside an installed package or beside it in a checkout. Folders of a user's own and installed packs are loaded
by the same code. Every file in such a folder is a rule, except those whose name starts with an underscore.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from gradcheck_lint.errors import ConfigError, shown
from gradcheck_lint.rule import Rule
from gradcheck_lint.source.events import Event

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from importlib.metadata import EntryPoint

    from gradcheck_lint.config import Settings

PACKAGE = "gradcheck_lint.rules"
"""The name under which the rules of gradlint are mounted, and the entry point group of installed packs."""

ALWAYS = frozenset({"GL001", "GL003"})
"""Rules that `select` does not turn off, only `ignore`: a file that was not checked must not look clean."""

_CODE = re.compile(r"[A-Z]+[0-9]+")
_SLUG = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")


class RegistryError(ConfigError):
    """A rule cannot be loaded, or two of them want the same name."""


def home() -> Path:
    """The folder of gradlint's own rules: the packaged one if it is there, else the checkout's."""
    here = Path(__file__).resolve().parent
    packaged = here / "rules"
    return packaged if packaged.is_dir() else here.parent / "rules"


def mount(name: str, folder: Path) -> ModuleType:
    """Makes `folder` importable as the package `name`, so that its files can import each other."""
    there = sys.modules.get(name)
    if there is not None and list(there.__path__) == [str(folder)]:
        return there
    package = ModuleType(name, f"The rules in {folder}.")
    package.__path__ = [str(folder)]
    package.__package__ = name
    sys.modules[name] = package
    parent, _, last = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], last, package)
    return package


def load(folders: Sequence[Path] = (), *, packs: bool = True) -> list[Rule]:
    """Every rule that there is, by code: our own, those of `folders`, and those of installed packs.

    A process that is handed rules from another one calls this first: it mounts what their classes live in.
    """
    found = _in_folder(PACKAGE, home())
    for folder in folders:
        if not folder.is_dir():
            raise RegistryError(f'the rule folder "{folder.as_posix()}" does not exist')
        found += _in_folder(_mount_name(folder), folder)
    if packs:
        found += _in_packs()
    _check(found)
    return [rule() for rule in sorted(found, key=lambda rule: rule.code)]


def texts() -> dict[str, str]:
    """The texts of our own rules by the name of the module, for those who need to load but a few of them."""
    folder = home()
    names = [file[:-3] for file in os.listdir(folder) if file.endswith(".py") and not file.startswith("_")]
    return {name: (folder / f"{name}.py").read_text(encoding="utf-8") for name in names}


def load_own(names: Iterable[str]) -> list[Rule]:
    """Our own rules in the modules of these names."""
    folder = home()
    mount(PACKAGE, folder)
    found = [rule for name in names for rule in _in_module(f"{PACKAGE}.{name}", folder / f"{name}.py")]
    return [rule() for rule in sorted(found, key=lambda rule: rule.code)]


def page_path(rule: Rule) -> Path | None:
    """Where the page of a rule is: beside its file, with the same stem."""
    file = getattr(sys.modules.get(type(rule).__module__), "__file__", None)
    if file is None:
        return None
    page = Path(file).with_suffix(".md")
    return page if page.is_file() else None


def find(rules: Sequence[Rule], word: str) -> Rule:
    """The one rule called `word`, a code or a slug, in any case; raises ConfigError with a suggestion."""
    for rule in rules:
        if word.upper() == rule.code or word.lower() == rule.slug:
            return rule
    raise ConfigError(f'there is no rule "{word}"{_hint(rules, word)}')


def named(rules: Sequence[Rule], word: str) -> list[Rule]:
    """The rules that a word names: a code, a slug, the beginning of codes; raises ConfigError with a suggestion."""
    family = [rule for rule in rules if len(word) > 2 and rule.code.startswith(word.upper())]
    return family or [find(rules, word)]


def nearest_rule(rules: Sequence[Rule], word: str) -> str:
    """The code or slug that was probably meant by `word`; empty where none is near, or several codes are."""
    from difflib import get_close_matches

    if any(character.isdigit() for character in word):
        codes = [rule.code for rule in rules]
        letters, digits = _parts(word)
        if f"{letters}{digits}" in codes:
            return f"{letters}{digits}"
        near = [code for code in codes if _one_slip(word.upper(), code)]
        return near[0] if len(near) == 1 else ""
    near = get_close_matches(word.lower(), [rule.slug for rule in rules], n=1, cutoff=0.6)
    return near[0] if near else ""


def _parts(word: str) -> tuple[str, str]:
    """The letters and the digits of a code, letters that look like digits read as such: GL1O1 is GL101."""
    found = re.match("[A-Z]*", word.upper())
    letters = found[0] if found else ""
    rest = word.upper()[len(letters) :]
    return letters, rest.translate(str.maketrans("OILSBZ", "011582"))


def _one_slip(word: str, code: str) -> bool:
    """Whether one character is missing, too much or another, or two have changed places."""
    if len(word) == len(code):
        apart = [i for i in range(len(code)) if word[i] != code[i]]
        swapped = len(apart) == 2 and apart[0] + 1 == apart[1] and sorted(word) == sorted(code)
        return len(apart) == 1 or swapped
    short, long = sorted((word, code), key=len)
    return len(long) == len(short) + 1 and any(long[:i] + long[i + 1 :] == short for i in range(len(long)))


def _hint(rules: Sequence[Rule], word: str) -> str:
    near = nearest_rule(rules, word)
    if near:
        return f'; did you mean "{near}"?'
    prefixes = sorted({_parts(rule.code)[0] for rule in rules})
    if _CODE.fullmatch(word) and _parts(word)[0] not in prefixes:
        return f"; the codes of gradlint's rules begin with {' or '.join(prefixes)}"
    return "; see `gradlint rules`"


def select(rules: Sequence[Rule], settings: Settings) -> list[Rule]:
    """The rules that are on.

    At first all are, except those whose class says `default = False`. Each selection builds on the one before: one
    with `select` starts anew, any other adds and takes away. Inside a selection the longer word wins (GL101 over
    GL1 over ALL), and of two that are equal `ignore` wins.
    """
    on = {rule.code for rule in rules if getattr(rule, "default", True)}
    for selection in settings.selections:
        words = (*(selection.select or ()), *selection.extend_select)
        partial = bool(settings.left_out) and selection.of_project  # it may name a rule of a folder that was left out
        wanted = _weights(rules, words, selection.origin, partial=partial)
        unwanted = _weights(rules, selection.ignore, selection.origin, partial=partial)
        if selection.select is not None:
            on = set(ALWAYS)
        for rule in rules:
            plus, minus = wanted.get(rule.code, 0), unwanted.get(rule.code, 0)
            if plus > minus:
                on.add(rule.code)
            elif minus:
                on.discard(rule.code)
    return [rule for rule in rules if rule.code in on]


def passed_over(rules: Sequence[Rule], settings: Settings) -> list[tuple[str, str]]:
    """The words of a configuration that name no rule, and where they stand, if rules of its own were left out."""
    if not settings.left_out:
        return []
    return [
        (word, selection.origin)
        for selection in settings.selections
        if selection.of_project
        for word in dict.fromkeys((*(selection.select or ()), *selection.extend_select, *selection.ignore))
        if not _weights(rules, [word], selection.origin, partial=True)
    ]


def nothing_to_find(on: Sequence[Rule], settings: Settings) -> bool:
    """Whether the rules that are on find nothing in code, and nobody has asked for just those that say so."""
    if any("source" in rule.witnesses for rule in on if rule.code not in ALWAYS):
        return False
    asked = {word for each in settings.selections for word in (*(each.select or ()), *each.extend_select)}
    return not any(word in (rule.code, rule.slug) for rule in on for word in asked if rule.code in ALWAYS)


def codes(rules: Sequence[Rule], words: Iterable[str], origin: str, *, partial: bool = False) -> frozenset[str]:
    """The codes of the rules that `words` name; raises ConfigError for a word that names none.

    `partial` says that these are not all the rules that the words may be about; then such a word is passed over.
    """
    return frozenset(_weights(rules, words, origin, partial=partial))


def _weights(rules: Sequence[Rule], words: Iterable[str], origin: str, *, partial: bool) -> dict[str, int]:
    """For each code that some word names, how exactly it does: 1 for ALL, more for a longer beginning."""
    weights: dict[str, int] = {}
    for word in words:
        weight = 1 if word == "ALL" else 1 + len(word)
        named = [rule.code for rule in rules if word == "ALL" or rule.code.startswith(word)] if word else []
        if not named:
            named = [rule.code for rule in rules if rule.slug == word]
            weight = max((1 + len(code) for code in named), default=0)
        if not named and not partial:
            where = f" in {origin}" if origin else ""
            raise ConfigError(f'unknown rule "{word}"{where}{_hint(rules, word)}')
        for code in named:
            weights[code] = max(weight, weights.get(code, 0))
    return weights


def _mount_name(folder: Path) -> str:
    """A name for a user's folder that is the same in every process."""
    from zlib import crc32

    stem = re.sub(r"\W", "_", folder.name)
    return f"gradcheck_lint.rules_{stem}_{crc32(os.fsencode(folder.resolve())):08x}"


def _in_folder(name: str, folder: Path) -> list[type[Rule]]:
    mount(name, folder)
    found: list[type[Rule]] = []
    for file in sorted(os.listdir(folder)):
        if file.endswith(".py") and not file.startswith("_"):
            found += _in_module(f"{name}.{file[:-3]}", folder / file)
    return found


def _in_module(name: str, file: Path) -> list[type[Rule]]:
    try:
        module = importlib.import_module(name)
    except (Exception, SystemExit) as error:  # whatever a user's file raises is told in one line
        raise RegistryError(f"the rule {shown(file)} cannot be loaded: {type(error).__name__}: {error}") from error
    return [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Rule) and value.__module__ == name and hasattr(value, "code")
    ]


def _in_packs() -> list[type[Rule]]:
    if not may_have_packs():
        return []
    found: list[type[Rule]] = []
    for point in sorted(_points(), key=lambda point: (point.name, point.value)):
        try:
            pack = importlib.import_module(point.module)
        except (Exception, SystemExit) as error:
            message = f'the rule pack "{point.name}" cannot be loaded: {type(error).__name__}: {error}'
            raise RegistryError(message) from error
        folders = [Path(folder) for folder in getattr(pack, "__path__", ())]
        if not folders:
            found += _in_module(point.module, Path(str(pack.__file__)))
        for folder in folders:
            for file in sorted(os.listdir(folder)):
                if file.endswith(".py") and not file.startswith("_"):
                    found += _in_module(f"{point.module}.{file[:-3]}", folder / file)
    return found


def _points() -> Iterator[EntryPoint]:
    """The entry points of installed packs; of two distributions of one name the first counts."""
    from importlib.metadata import distributions

    seen = set()
    for distribution in distributions(path=_installed()):
        name = re.sub(r"[-_.]+", "-", distribution.metadata["Name"] or "").lower()
        if name not in seen:
            seen.add(name)
            yield from (point for point in distribution.entry_points if point.group == PACKAGE)


def _installed() -> list[str]:
    """The folders in which installed distributions lie.

    The one where the command runs is none of them, though it can be on the path (`python -m`, `PYTHONPATH=.`): the
    code that is linted may lie in it, and would be installed by a folder called `x.dist-info`.
    """
    here = os.path.normcase(os.path.realpath(os.getcwd()))
    whole = [entry for entry in dict.fromkeys(sys.path) if os.path.isabs(entry)]
    return [entry for entry in whole if os.path.normcase(os.path.realpath(entry)) != here]


def may_have_packs() -> bool:
    """Whether some installed distribution names our entry point group.

    `importlib.metadata` takes as long to import as all the rules to load, and nearly nobody has a pack; this reads
    the same files without it. Where distributions may lie in something that is no folder, it says yes.
    """
    group = f"[{PACKAGE}]".encode()
    for entry in _installed():
        try:
            names = os.listdir(entry)
        except NotADirectoryError:
            return True  # a zip file
        except OSError:
            continue
        for name in names:
            if not name.endswith((".dist-info", ".egg-info")):
                continue
            try:
                with open(os.path.join(entry, name, "entry_points.txt"), "rb") as file:
                    if group in file.read():
                        return True
            except OSError:
                continue
    return False


def _check(rules: Sequence[type[Rule]]) -> None:
    """Raises RegistryError for a rule whose name is unfit or another rule's, and for one that listens to no event or
    watches for what is no sighting.
    """
    owners: dict[str, type[Rule]] = {}
    for rule in rules:
        where = f"the rule class {rule.__name__} in {_file(rule)}"
        code, slug = rule.code, getattr(rule, "slug", None)
        if not (isinstance(code, str) and _CODE.fullmatch(code)):
            raise RegistryError(f"{where} has the code {code!r}; it has to be capital letters and digits, as GL101")
        if not (isinstance(slug, str) and _SLUG.fullmatch(slug)):
            raise RegistryError(f"{where} has the slug {slug!r}; it has to be words joined by hyphens")
        if not isinstance(rule.listens, tuple) or not all(map(_is_event, rule.listens)):
            raise RegistryError(f"{where} listens to {rule.listens!r}; it has to be classes, as (events.Step,)")
        if not (isinstance(rule.watches, tuple) and all(isinstance(kind, type) for kind in rule.watches)):
            raise RegistryError(f"{where} watches {rule.watches!r}; it has to be a tuple of classes of sightings")
        for word in (code, slug):
            other = owners.setdefault(word, rule)
            if other is not rule:
                raise RegistryError(f'"{word}" names two rules: {_file(other)} and {_file(rule)}; rename one')


def _is_event(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Event)


def _file(rule: type[Rule]) -> str:
    file = getattr(sys.modules.get(rule.__module__), "__file__", None)
    return shown(Path(file)) if file else rule.__module__
