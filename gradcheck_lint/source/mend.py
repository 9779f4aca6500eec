"""Fixes what was found, lints again, and so on until nothing more changes.

All rounds happen in memory: what comes out is one Plan, from the files as they were read to what they become, that
can be shown or written. A fix that leaves its finding where it was is taken back: it would be applied for ever.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gradcheck_lint.result import Problem, Result
from gradcheck_lint.source import edit
from gradcheck_lint.source.edit import Change, Plan
from gradcheck_lint.source.file import SourceFile
from gradcheck_lint.source.lint import Batch, check

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gradcheck_lint.config import Settings
    from gradcheck_lint.finding import Finding
    from gradcheck_lint.source.lint import Progress, Rules

ROUNDS = 10

Fixes = Callable[[Sequence["Finding"], Sequence[SourceFile]], "Iterable[Finding]"]
"""Gives findings, in files as they are now, the fixes that are to be applied."""

_Kind = tuple[str, str, str]  # the path, the code and the message of a finding


@dataclass(frozen=True, slots=True)
class Mended:
    """What remains to be told, and what becomes of the files. Nothing is written yet."""

    result: Result
    plan: Plan
    batch: Batch  # the files as they will be


def mend(
    batch: Batch,
    rules: Rules,
    settings: Settings,
    *,
    unsafe: bool,
    jobs: int | None = None,
    progress: Progress | None = None,
    fixes: Fixes = lambda findings, files: findings,
) -> Mended:
    """Lint `batch` and plan the fixes, the safe ones or all if `unsafe`; `fixes` may give the findings others."""
    before = {file.path: file for file in batch.files}
    result = check(batch, rules, settings, jobs=jobs, progress=progress)
    applied: list[Finding] = []
    problems: list[Problem] = []
    hopeless: set[_Kind] = set()
    rounds = 0
    while rounds < ROUNDS:
        hopeful = [finding for finding in result.findings if _kind(finding) not in hopeless]
        step = edit.plan(fixes(hopeful, batch.files), {file.path: file for file in batch.files}, unsafe=unsafe)
        if not step.changes:
            break
        rounds += 1
        next_batch = _with(batch, {path: change.data for path, change in step.changes.items()})
        next_result = check(next_batch, rules, settings, jobs=jobs, progress=progress)
        stuck = _stuck(step.applied, result.findings, next_result.findings)
        if stuck:
            hopeless |= stuck
            for path, code, _ in sorted(stuck):
                message = f"the fix of {code} does not remove the finding, and was left out"
                problems.append(Problem(path, message))
            continue
        batch, result = next_batch, next_result
        applied += step.applied
    touched = {change.span.path for finding in applied if finding.fix for change in finding.fix.edits}
    after = {file.path: file for file in batch.files}
    changes = {path: Change(before[path], after[path].data) for path in sorted(touched)}
    result = replace(result, fixed=len(applied), problems=(*result.problems, *problems))
    return Mended(result, Plan(changes, tuple(applied), ()), batch)


def write(mended: Mended, rules: Rules, settings: Settings, *, jobs: int | None = None) -> Result:
    """Write the files. Where one cannot be written the result is of what is really there."""
    problems = edit.write(mended.plan)
    if not problems:
        return mended.result
    failed = {problem.path for problem in problems}
    old = {path: change.file.data for path, change in mended.plan.changes.items() if path in failed}
    result = check(_with(mended.batch, old), rules, settings, jobs=jobs)
    fixed = sum(not failed & _paths(finding) for finding in mended.plan.applied)
    return replace(result, fixed=fixed, problems=(*mended.result.problems, *problems))


def _kind(finding: Finding) -> _Kind:
    return finding.span.path, finding.code, finding.message


def _paths(finding: Finding) -> set[str]:
    return {change.span.path for change in finding.fix.edits} if finding.fix else set()


def _stuck(applied: Iterable[Finding], old: Iterable[Finding], new: Iterable[Finding]) -> set[_Kind]:
    """The kinds of findings of which a round of fixes left as many as there were."""
    before, after = Counter(map(_kind, old)), Counter(map(_kind, new))
    return {kind for kind in map(_kind, applied) if after[kind] >= before[kind]}


def _with(batch: Batch, data: dict[str, bytes]) -> Batch:
    """`batch` with other contents for some of its files."""

    def turned(file: SourceFile) -> SourceFile:
        return SourceFile(file.path, file.real, data[file.path]) if file.path in data else file

    return replace(batch, files=tuple(map(turned, batch.files)))
