"""Files that belong together, analysed apart from all others: in several processes, or not at all if remembered.

An island is a set of files that import one another. What is found in one depends on nothing outside it but the files
that it imports, so islands can be spread over processes, and their findings remembered until one of these changes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from gradcheck_lint.result import Extent
from gradcheck_lint.source import limits
from gradcheck_lint.source.file import DecodeError, SourceFile, decode
from gradcheck_lint.source.outcome import Island, attempt

if TYPE_CHECKING:
    from gradcheck_lint.finding import Confidence, Finding, Span
    from gradcheck_lint.result import Problem
    from gradcheck_lint.source.memory import Memory
    from gradcheck_lint.source.outcome import Analyse, Outcome, Outcomes, Work
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
    return [island for group in groups.values() for island in _parts(group)]


def _parts(group: list[SourceFile]) -> list[Island]:
    """The islands that some files make which import one another: folder by folder, where they are very large."""
    if _size(group) <= limits.ISLAND:
        return [Island(tuple(group))]
    parts = _by_folder([(file, os.path.abspath(file.real).split(os.sep)) for file in group], 0)
    return [Island(tuple(part), tuple(f for other in parts if other is not part for f in other)) for part in parts]


def _by_folder(files: list[tuple[SourceFile, list[str]]], depth: int) -> list[list[SourceFile]]:
    """Files in parts that are not too large, with as few folders split as that takes; `depth` folders are common."""
    if _size(file for file, _ in files) <= limits.ISLAND or len(files) == 1:
        return [[file for file, _ in files]]
    entries: dict[str, list[tuple[SourceFile, list[str]]]] = {}
    for file, path in files:
        entries.setdefault(path[depth], []).append((file, path))
    parts: list[list[SourceFile]] = []
    for name in sorted(entries):
        for part in _by_folder(entries[name], depth + 1):
            if parts and _size(parts[-1]) + _size(part) <= limits.ISLAND:
                parts[-1] += part
            else:
                parts.append(part)
    return parts


def _size(files: Iterable[SourceFile]) -> int:
    return sum(file.size for file in files)


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
    findings: dict[tuple[str, Span], Finding] = {}
    problems: list[Problem] = []
    total = sum(len(group.files) for group in groups)
    done = 0
    todo: list[Island] = []
    for group in groups:
        known = memory.recall(group) if memory is not None else None
        if known is None:
            todo.append(group)
        else:
            _take(known, findings, extent)
            done += len(group.files)
    with closing(_outcomes(work, todo, analyse, jobs)) as outcomes:  # else processes would outlive an interrupt
        for group, outcome in outcomes:
            _take(outcome, findings, extent)
            problems += outcome.problems
            if memory is not None and not outcome.problems:
                memory.keep(group, outcome)
            done += len(group.files)
            if progress is not None:
                progress(done, total)
    extent.cut[:] = dict.fromkeys(extent.cut)
    return list(findings.values()), problems


def _take(outcome: Outcome, findings: dict[tuple[str, Span], Finding], extent: Extent) -> None:
    """Add what came of an island; of what two find that lie beside one another, the same is kept, whoever is first."""
    for finding in outcome.findings:
        before = findings.get((finding.code, finding.span))
        if before is None or _weight(before) < _weight(finding):
            findings[finding.code, finding.span] = finding
    extent.cut += outcome.cut
    extent.training.update(outcome.training)


def _weight(finding: Finding) -> tuple[Confidence, bool, str]:
    """The greater it is, the more is to be said for this way to tell of a mistake; the text settles what is left."""
    return finding.confidence, finding.fix is not None, repr(finding)


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
