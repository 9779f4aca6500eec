"""Files that belong together, analysed apart from all others: in several processes, or not at all if remembered.

An island is a set of files that import one another. What is found in one depends on nothing outside it but the files
that it imports, so islands can be spread over processes, and their findings remembered until one of these changes.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from gradcheck_lint.source.file import DecodeError, SourceFile, decode

if TYPE_CHECKING:
    from pathlib import Path

    from gradcheck_lint.finding import Finding
    from gradcheck_lint.result import Problem
    from gradcheck_lint.rule import Rule
    from gradcheck_lint.source.memory import Memory
    from gradcheck_lint.source.project import Finder

    Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Work:
    """What to do with each island: the rules that are on, and what finds the files that imports mean."""

    rules: tuple[Rule, ...]
    finder: Finder


class Outcome(NamedTuple):
    """What came of an island; `others` are the files that were read beside its own.

    `cut` are the entry points and classes that were followed or judged in part only, because all of it would have
    been too much work: path and qualified name, which is empty for a module's own code.
    """

    findings: tuple[Finding, ...]
    problems: tuple[Problem, ...]
    others: tuple[str, ...]
    cut: tuple[tuple[str, str], ...] = ()


Analyse = Callable[[Work, Sequence[SourceFile]], Outcome]
Island = tuple[SourceFile, ...]


def islands(files: Sequence[SourceFile], finder: Finder) -> list[Island]:
    """The files in groups that import one another, in a fixed order."""
    leader = list(range(len(files)))

    def lead(index: int) -> int:
        while leader[index] != index:
            leader[index] = leader[leader[index]]
            index = leader[index]
        return index

    by_path = {os.path.abspath(file.real): index for index, file in enumerate(files)}
    for index, file in enumerate(files):
        try:
            text = decode(file.data)
        except DecodeError:
            continue
        for path in finder.imported(os.path.dirname(os.path.abspath(file.real)), text):
            other = by_path.get(path)
            if other is not None:
                a, b = sorted((lead(index), lead(other)))
                leader[b] = a
    groups: dict[int, list[SourceFile]] = {}
    for index, file in enumerate(files):
        groups.setdefault(lead(index), []).append(file)
    return [tuple(group) for group in groups.values()]


def run(
    work: Work,
    groups: Sequence[Island],
    analyse: Analyse,
    *,
    jobs: int,
    progress: Progress | None,
    cache: Path | None,
) -> tuple[list[Finding], list[Problem]]:
    """Analyse each island, in `jobs` processes, save those that the cache remembers."""
    memory = _memory(cache, work) if cache is not None else None
    findings: list[Finding] = []
    problems: list[Problem] = []
    total = sum(map(len, groups))
    done = 0
    todo: list[Island] = []
    for group in groups:
        known = memory.recall(group) if memory is not None else None
        if known is None:
            todo.append(group)
        else:
            findings += known
            done += len(group)
    for group, outcome in _outcomes(work, todo, analyse, jobs):
        findings += outcome.findings
        problems += outcome.problems
        if memory is not None and not outcome.problems:
            memory.keep(group, outcome.findings, outcome.others)
        done += len(group)
        if progress is not None:
            progress(done, total)
    return findings, problems


def _memory(cache: Path, work: Work) -> Memory:
    from gradcheck_lint.source.memory import Memory

    return Memory(cache, work.rules, work.finder.roots)


def _outcomes(work: Work, todo: Sequence[Island], analyse: Analyse, jobs: int) -> Iterator[tuple[Island, Outcome]]:
    if jobs <= 1 or len(todo) < 2:
        for group in todo:
            yield group, analyse(work, group)
        return
    from concurrent.futures import ProcessPoolExecutor, as_completed

    shares = _shares(todo, jobs)
    where = {type(r).__module__.rpartition(".")[0] for r in work.rules}
    folders = [
        (name, list(sys.modules[name].__path__)) for name in sorted(where) if hasattr(sys.modules.get(name), "__path__")
    ]
    with ProcessPoolExecutor(max_workers=jobs, initializer=_mount, initargs=(folders,)) as pool:
        futures = {pool.submit(_share, analyse, work, share): share for share in shares}
        for future in as_completed(futures):
            yield from zip(futures[future], future.result(), strict=True)


def _shares(todo: Sequence[Island], jobs: int) -> list[list[Island]]:
    """The islands in a few portions of about the same size, the largest first: one task each costs too much."""
    shares: list[list[Island]] = [[] for _ in range(min(len(todo), jobs * 4))]
    sizes = [0] * len(shares)
    for group in sorted(todo, key=lambda g: -sum(len(f.data) for f in g)):
        index = sizes.index(min(sizes))
        shares[index].append(group)
        sizes[index] += sum(len(f.data) for f in group)
    return [share for share in shares if share]


def _share(analyse: Analyse, work: Work, share: Sequence[Island]) -> list[Outcome]:
    return [analyse(work, group) for group in share]


def _mount(folders: Sequence[tuple[str, list[str]]]) -> None:
    """In a new process: mount the folders of rules, so that rules can be sent to it."""
    from pathlib import Path

    from gradcheck_lint import registry

    for name, path in folders:
        if name in sys.modules:
            continue
        if len(path) == 1:
            registry.mount(name, Path(path[0]))
        else:
            importlib.import_module(name)
