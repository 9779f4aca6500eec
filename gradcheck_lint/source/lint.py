"""From paths to a Result: find and read files, analyse them, silence what is to be silenced, choose what is shown.

`lint` is the whole of it. `collect` and `check` are its halves, for who wants to lint the same files again after
mending them; `examine` is the part of `check` that looks at code, without the settings of a user.
"""

from __future__ import annotations

import ast
import os
import re
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gradcheck_lint.errors import ConfigError
from gradcheck_lint.files import TooLargeError, handed_over, read_handed_over, read_regular
from gradcheck_lint.finding import Confidence, Finding, Severity, Span
from gradcheck_lint.result import NOTHING, UNCHECKED, AnalysisError, Extent, Problem, Result, Skipped
from gradcheck_lint.source import limits, store
from gradcheck_lint.source.discovery import excluded, reason_of, survey
from gradcheck_lint.source.file import LARGEST, DecodeError, PackedFile, SourceFile, decode
from gradcheck_lint.source.per_file import PerFileIgnores
from gradcheck_lint.source.suppress import speaks, suppress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from gradcheck_lint.config import Settings
    from gradcheck_lint.rule import Rule
    from gradcheck_lint.source.store import Store

    Progress = Callable[[int, int], None]

_SUFFIXES = (".py", ".pyi", ".pyw")
_SHEBANG = re.compile(rb"(?:\xef\xbb\xbf)?#![^\n]*python")

_FILES_PER_JOB = 40
"""With fewer files than this for each, starting another process costs more than it saves."""


@dataclass(frozen=True, slots=True)
class Batch:
    """The files of one run: those that were read, and one finding for each that could not be."""

    files: tuple[SourceFile, ...]
    unread: tuple[Finding, ...] = ()
    skipped: Skipped = NOTHING
    stdin: bool = False  # the text came from standard input: it is no file, and nothing is remembered of it

    def __len__(self) -> int:
        return len(self.files) + len(self.unread)

    def places(self) -> Iterator[tuple[str, Path]]:
        """The path of each file, as it is shown and where it lies."""
        for file in self.files:
            yield file.path, Path(file.real)
        for finding in self.unread:
            yield finding.span.path, Path(finding.span.path)


@dataclass(frozen=True, slots=True)
class Rules:
    """All rules that there are, and the ones that are on."""

    known: tuple[Rule, ...]
    on: tuple[Rule, ...]
    partial: bool = False  # the project has others, which were left out
    own: Mapping[Path | None, Rules] = field(default_factory=dict)
    """Those of the settings of each file of settings, where there are several."""

    def of(self, settings: Settings) -> Rules:
        """The rules for some of the files: those with these settings."""
        return self.own.get(settings.source, self)


class Terms(NamedTuple):
    """What is told of one file: findings with these codes, of the least confidence or more."""

    rules: Rules
    codes: frozenset[str]
    least: Confidence


def lint(
    paths: Sequence[str],
    settings: Settings,
    *,
    stdin: SourceFile | None = None,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Result:
    """Lint `paths`, or the text `stdin` alone if it is given. Raises ConfigError for what a user has to mend."""
    start = time.perf_counter()
    batch = collect(paths, settings, stdin=stdin)
    rules = rules_of(settings, batch)
    result = check(batch, rules, settings, jobs=jobs, progress=progress)
    return replace(result, seconds=time.perf_counter() - start)


def rules_of(settings: Settings, batch: Batch | None = None) -> Rules:
    """The rules for `settings`, and for those that files of `batch` have in their place."""
    from gradcheck_lint import registry

    every = every_of(settings, batch) if batch is not None else [settings]
    known = registry.load(list(dict.fromkeys(folder for each in every for folder in each.rule_folders)))
    if len(every) == 1:
        [only] = every
        return Rules(tuple(known), tuple(registry.select(known, only)), partial=bool(only.left_out))
    own: dict[Path | None, Rules] = {}
    for each in every:
        types = {type(rule) for rule in registry.load(each.rule_folders)}
        mine = tuple(rule for rule in known if type(rule) in types)
        own[each.source] = Rules(mine, tuple(registry.select(mine, each)), partial=bool(each.left_out))
    on = {rule.code for rules in own.values() for rule in rules.on}
    partial = any(rules.partial for rules in own.values())
    return Rules(tuple(known), tuple(rule for rule in known if rule.code in on), partial, own)


def every_of(settings: Settings, batch: Batch) -> list[Settings]:
    """The settings of all files, each once; those above all of them only if a file has none of its own."""
    found = {each.source: each for path, real in batch.places() for each in [settings.at(real.parent)]}
    return list(found.values()) or [settings]


def collect(paths: Sequence[str], settings: Settings, *, stdin: SourceFile | None = None) -> Batch:
    """Find the files of `paths` and read them."""
    if stdin is not None:
        left_out = settings.force_exclude and excluded(stdin.real, settings)
        return Batch(() if left_out else (stdin,), stdin=True)
    files: list[SourceFile] = []
    unread: list[Finding] = []
    size = 0
    everything, skipped = survey(paths, settings)
    for found in everything:
        reason = found.reason
        if not reason:
            try:
                file = SourceFile(found.path, found.real, _bytes(found.real))
                if found.named:
                    refuse_other_text(file)
                size += file.size
                files.append(file if size <= limits.UNPACKED else PackedFile.of(file))
            except TooLargeError as error:
                why = str(error.strerror).replace("too large", "too large to lint", 1)
                unread.append(_unreadable(found.path, why, "split it, or exclude it"))
            except OSError as error:
                reason = reason_of(error)
        if reason:
            unread.append(_unreadable(found.path, reason, "make it readable, or exclude it"))
    return Batch(tuple(files), tuple(unread), skipped)


def refuse_other_text(file: SourceFile) -> None:
    """Raise ConfigError for a file that is called otherwise than Python's, and holds no program.

    "All clear" of a file of settings, or of data that happens to be an expression, would be said of nothing.
    """
    if file.path.endswith(_SUFFIXES) or _SHEBANG.match(file.data):
        return
    try:
        body = ast.parse(_text(file)).body
        program = not body or any(not isinstance(node, ast.Expr) or isinstance(node.value, ast.Call) for node in body)
    except (RecursionError, MemoryError):
        return
    except (DecodeError, SyntaxError, ValueError):
        program = False
    if not program:
        raise ConfigError(f"{file.path} is not Python source; name it *.py if it is")


def check(
    batch: Batch, rules: Rules, settings: Settings, *, jobs: int | None = None, progress: Progress | None = None
) -> Result:
    """Lint the files of `batch`, and choose from what is found as `settings` say."""
    start = time.perf_counter()
    jobs = _jobs(len(batch.files)) if jobs is None else jobs
    terms = _terms(batch, rules, settings)
    cache = store.open_for(settings) if settings.cache and not batch.stdin else None
    extent = Extent()
    found, problems = _examined(batch.files, rules, terms, jobs, progress, cache, extent)
    shown = [
        finding
        for finding in dict.fromkeys([*batch.unread, *found])
        if (here := terms.get(finding.span.path)) is not None
        and finding.code in here.codes
        and finding.confidence >= here.least
    ]
    shown.sort(key=lambda finding: finding.order)
    return Result(
        findings=tuple(shown),
        files=len(batch),
        seconds=time.perf_counter() - start,
        problems=tuple(problems),
        cut=tuple(sorted(extent.cut)),
        training=len(extent.training),
        skipped=batch.skipped,
        read=_read(batch.files, shown),
    )


def examine(
    files: Sequence[SourceFile],
    rules: Sequence[Rule],
    *,
    known: Sequence[Rule] | None = None,
    jobs: int = 1,
    progress: Progress | None = None,
) -> list[Finding]:
    """All that `rules` find in `files`, of whatever confidence, except what comments silence.

    `known` are the rules that a comment may name, if they are more. Raises AnalysisError where a rule broke.
    """
    codes = frozenset(rule.code for rule in rules)
    on = Rules(tuple(known or rules), tuple(rules))
    terms = dict.fromkeys((file.path for file in files), Terms(on, codes, Confidence.LOW))
    found, problems = _examined(files, on, terms, jobs, progress, None, Extent())
    found = sorted((finding for finding in found if finding.code in codes), key=lambda finding: finding.order)
    if problems:
        raise AnalysisError(found, problems)
    return found


def _examined(
    files: Sequence[SourceFile],
    rules: Rules,
    terms: Mapping[str, Terms],
    jobs: int,
    progress: Progress | None,
    cache: Store | None,
    extent: Extent,
) -> tuple[list[Finding], list[Problem]]:
    """The work of `examine`; `terms` are those of each file, and `extent` is filled."""
    by_path: dict[str, list[Finding]] = {}
    for file in files:
        try:
            _text(file)  # not kept: the texts of all files are as big as the files
        except DecodeError as error:
            by_path[file.path] = [_unreadable(file.path, str(error), error.cure, error.line)]
    sound = [file for file in files if file.path not in by_path]
    checked = {file.path for file in sound}
    found, problems = _analyse(sound, rules, jobs, progress, cache, extent)
    for finding in found:
        by_path.setdefault(finding.span.path, []).append(finding)
    unsure = {problem.path for problem in problems}
    kept: list[Finding] = []
    for file in files:
        here = by_path.pop(file.path, [])
        if file.path not in checked or not speaks(file.data, here):
            kept += here
            continue
        broken = "" in unsure or file.path in unsure or any(finding.code in UNCHECKED for finding in here)
        mine = terms[file.path]
        looked_for = None if broken else mine.codes
        own = mine.rules
        kept += suppress(file.path, file.data, _text(file), here, own.known, looked_for, partial=own.partial)
    for rest in by_path.values():  # of files that are not in `files`
        kept += rest
    return kept, problems


def _analyse(
    files: Sequence[SourceFile],
    rules: Rules,
    jobs: int,
    progress: Progress | None,
    cache: Store | None,
    extent: Extent,
) -> tuple[list[Finding], list[Problem]]:
    """Runs the engine; what breaks inside it becomes a Problem."""
    if not files:
        return [], []
    from gradcheck_lint.source.engine import analyse

    # A file that does not parse is asked about even if nobody wants to be told: nothing else is known about it then.
    wanted = {rule.code for rule in rules.on} | UNCHECKED
    active = [rule for rule in rules.known if rule.code in wanted and "source" in rule.witnesses]
    try:
        return analyse(files, active, known=rules.known, jobs=jobs, progress=progress, cache=cache, extent=extent), []
    except AnalysisError as error:
        return list(error.findings), list(error.problems)
    except Exception as error:
        return [], [Problem.of(files[0].path if len(files) == 1 else "", error)]


def _bytes(path: Path) -> bytes:
    return read_handed_over(str(path), LARGEST) if handed_over(path) else read_regular(path, LARGEST)


def _text(file: SourceFile) -> str:
    text = decode(file.data)
    at = text.find("\0")
    if at >= 0:
        line = text.count("\n", 0, at) + 1
        raise DecodeError("it holds a NUL byte, which no Python file may", "save it as plain text", line)
    return text


def _unreadable(path: str, reason: str, cure: str, line: int = 1) -> Finding:
    return Finding(
        code="GL003",
        slug="unreadable-file",
        severity=Severity.ERROR,
        confidence=Confidence.HIGH,
        message=f"this file cannot be read: {reason}",
        span=Span(path, line, 1, line, 1),
        label="not read",
        why="nothing in it was checked",
        help=cure,
    )


def _jobs(files: int) -> int:
    """How many processes are worth starting for so many files."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    return max(1, min(available, files // _FILES_PER_JOB))


def _terms(batch: Batch, rules: Rules, settings: Settings) -> dict[str, Terms]:
    """What is told of each file, by the settings that count for it."""
    known: dict[Path | None, tuple[Rules, frozenset[str], PerFileIgnores]] = {}
    terms: dict[str, Terms] = {}
    for path, real in batch.places():
        mine = settings.at(real.parent)
        if mine.source not in known:
            own = rules.of(mine)
            known[mine.source] = own, frozenset(rule.code for rule in own.on), PerFileIgnores(mine, own.known)
        own, codes, ignores = known[mine.source]
        codes = codes - ignores.codes(real) if ignores else codes
        terms[path] = Terms(own, codes, mine.min_confidence)
    return terms


def _read(files: Iterable[SourceFile], findings: Iterable[Finding]) -> dict[str, SourceFile]:
    """The files that the findings point into."""
    paths: set[str] = set()
    for finding in findings:
        paths.add(finding.span.path)
        paths.update(related.span.path for related in finding.related)
        if finding.fix is not None:
            paths.update(edit.span.path for edit in finding.fix.edits)
    return {file.path: file for file in files if file.path in paths}
