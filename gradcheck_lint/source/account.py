"""How the analysis came to what it found at a line: the events of the entry point in which that was found.

Shown are those that turn the gradient cycle, and those that happen to what the finding is about.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gradcheck_lint.account import Account, Head, Step
from gradcheck_lint.finding import Finding
from gradcheck_lint.rule import Rule
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source.engine import analysed, analysing, work_of
from gradcheck_lint.source.events import Event, Turning, Unknown
from gradcheck_lint.source.file import SourceFile
from gradcheck_lint.source.islands import islands
from gradcheck_lint.source.natures import Module, Optimizer
from gradcheck_lint.source.place import Place
from gradcheck_lint.source.said import said
from gradcheck_lint.source.timeline import Timeline
from gradcheck_lint.source.values import Thing, contents, things

MOST = 60  # steps of an account


def accounts(file: SourceFile, rules: Sequence[Rule], known: Sequence[Rule]) -> Iterator[Account]:
    """All that the rules find in a file, of whatever confidence, with how that was found, in the order of the code."""
    work = work_of([file], rules, known)
    for island in islands([file], work.finder):
        with analysing(work) as settle:
            analysis = analysed(island, work, settle)
            found = [f for f in analysis.findings.items() if f[1].span.path == file.path]
            for key, finding in sorted(found, key=lambda f: f[1].order):
                yield _account(finding, analysis.reports.found_in.get(key))


def _account(finding: Finding, timeline: Timeline | None) -> Account:
    if timeline is None:
        return Account(finding, None, finding.span.path)
    steps = list(_steps(timeline.tree, 0, finding, _about(finding, timeline)))
    kept = _nearest(steps)
    unseen = dict.fromkeys(event.name for event in timeline.events(Unknown))
    return Account(finding, timeline.name, timeline.home.path, tuple(kept), len(steps) - len(kept), tuple(unseen))


def _about(finding: Finding, timeline: Timeline) -> set[int]:
    """The serials of the things that the events at a finding's place happen to, and of the modules that these hold."""
    found: set[int] = set()
    for event in timeline.events():
        if _stands_at(event.place, finding) or _stands_at(event.statement, finding):
            for thing in things(event.subject):
                found.add(thing.core.serial)
                found |= {dep.core.serial for dep in thing.deps if isinstance(dep.what, Module)}
                if isinstance(thing.what, Optimizer):
                    found |= {module.core.serial for module in _held(thing.what)}
    for optimizer in timeline.optimizers():
        if isinstance(optimizer.what, Optimizer) and any(m.core.serial in found for m in _held(optimizer.what)):
            found.add(optimizer.core.serial)
    return found


def _held(optimizer: Optimizer) -> Iterator[Thing]:
    """The modules whose parameters an optimizer was given."""
    for value in (optimizer.params, *optimizer.added):
        for inner in contents(value):
            if isinstance(inner, Thing):
                yield from (dep for dep in (inner, *inner.deps) if isinstance(dep.what, Module))


def _stands_at(place: Place, finding: Finding) -> bool:
    span = place.span
    return span.path == finding.span.path and span.line == finding.span.line


def _steps(part: tl.Part, depth: int, finding: Finding, about: set[int]) -> Iterator[Step]:
    if isinstance(part, Event):
        here = _stands_at(part.place, finding)
        what = said(part)
        if what and (here or isinstance(part, Turning) or any(t.core.serial in about for t in things(part.subject))):
            yield _step(part.place, depth, said=what, here=here)
    elif isinstance(part, tl.Branch):
        for number, arm in enumerate(part.arms):
            inner = list(_steps(arm, depth + 1, finding, about))
            if inner:
                yield _step(part.place, depth, head=Head.ARM, code=_arm(part, number), line=inner[0].line)
                yield from inner
    elif isinstance(part, (tl.Loop, tl.Call)):
        inner = list(_steps(part.body, depth + 1, finding, about))
        if inner:
            yield _step(part.place, depth, head=Head.LOOP if isinstance(part, tl.Loop) else Head.CALL)
            yield from inner
    elif isinstance(part, tl.Guarded):
        yield from _steps(part.body, depth, finding, about)
        yield from _steps(part.final, depth, finding, about)
    elif isinstance(part, tl.Sequence):
        for step in part.steps:
            yield from _steps(step, depth, finding, about)


def _arm(part: tl.Branch, number: int) -> str:
    if isinstance(part, tl.Attempt):
        return "except" if number else "try"
    if part.test is None:
        return "one of several paths"
    test = _code(Place(part.place.chunk, part.test))
    return f"not {test}" if number else test


def _step(
    place: Place,
    depth: int,
    *,
    said: str = "",
    head: Head | None = None,
    code: str | None = None,
    line: int | None = None,
    here: bool = False,
) -> Step:
    span = place.span
    return Step(depth, span.path, line or span.line, _code(place) if code is None else code, said, head, here)


def _code(place: Place) -> str:
    """The source of a place, if that is one line, else the first line of it."""
    span = place.span
    lines = place.chunk.lines
    index = span.line - 1 - place.chunk.offset
    if not 0 <= index < len(lines):
        return ""
    end = span.end_column - 1 if span.end_line == span.line else None
    return " ".join(lines[index][span.column - 1 : end].split()).rstrip(":")


def _nearest(steps: Sequence[Step]) -> list[Step]:
    """The steps around the finding, where there are too many to show."""
    at = next((index for index, step in enumerate(steps) if step.here), len(steps) - 1)
    first = max(0, min(at - MOST * 3 // 4, len(steps) - MOST))
    return list(steps[first : first + MOST])
