"""Files that belong together, analysed apart from all others: in several processes, or not at all if remembered.

An island is a set of files that import one another. What is found in one depends on nothing outside it but the files
that it imports, so islands can be spread over processes, and their findings remembered until one of these changes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from gradcheck_lint.result import Extent
from gradcheck_lint.source.file import DecodeError, SourceFile, decode
from gradcheck_lint.source.outcome import attempt

if TYPE_CHECKING:
    from gradcheck_lint.finding import Finding
    from gradcheck_lint.result import Problem
    from gradcheck_lint.source.memory import Memory
    from gradcheck_lint.source.outcome import Analyse, Island, Outcomes, Work
    from gradcheck_lint.source.project import Finder
    from gradcheck_lint.source.store import Store

    Progress = Callable[[int, int], None]


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
    cache: Store | None,
    extent: Extent | None = None,
) -> tuple[list[Finding], list[Problem]]:
    """Analyse each island, in `jobs` processes, save those that the cache remembers."""
    extent = Extent() if extent is None else extent
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
            findings += known.findings
            extent.cut += known.cut
            extent.training.update(known.training)
            done += len(group)
    with closing(_outcomes(work, todo, analyse, jobs)) as outcomes:  # else processes would outlive an interrupt
        for group, outcome in outcomes:
            findings += outcome.findings
            problems += outcome.problems
            extent.cut += outcome.cut
            extent.training.update(outcome.training)
            if memory is not None and not outcome.problems:
                memory.keep(group, outcome)
            done += len(group)
            if progress is not None:
                progress(done, total)
    return findings, problems


def _memory(cache: Store, work: Work) -> Memory:
    from gradcheck_lint.source.memory import Memory

    return Memory(cache, work.rules, work.finder, work.triggers)


def _outcomes(work: Work, todo: Sequence[Island], analyse: Analyse, jobs: int) -> Outcomes:
    from gradcheck_lint import children

    if jobs > 1 and len(todo) > 1 and children.harmless():
        from gradcheck_lint.source import workers  # few runs are worth the import

        yield from workers.outcomes(work, todo, analyse, jobs)
        return
    for island in todo:
        yield island, attempt(analyse, work, island)
