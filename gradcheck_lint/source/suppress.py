"""Silences what comments say is to be silenced, and tells of comments that silence nothing (GL002).

A comment counts for a finding if it stands on the first or last line of what is marked, or of the statement in
which that begins, or if it speaks of the whole file. A file is only searched for comments if its bytes have the words
in them.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence, Edit, Finding, Fix, Safety, Severity, Span

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from gradcheck_lint.rule import Rule
    from gradcheck_lint.source.comments import Comment, Remark, Remarks

CODE = "GL002"
SLUG = "unused-suppression"

_OURS = re.compile(rb"#[^\n\r]*(?:gradlint|noqa[^\n\r]*[^A-Z0-9]GL\d)", re.IGNORECASE)
_NOQA = re.compile(rb"#[^\n\r]*noqa", re.IGNORECASE)
_CODE = re.compile(r"GL\d{3}", re.IGNORECASE)  # two digits are numpydoc's


def speaks(data: bytes, findings: Sequence[Finding]) -> bool:
    """Whether a file may have comments that are about gradlint; if not, its text is not needed."""
    return _OURS.search(data) is not None or (bool(findings) and _NOQA.search(data) is not None)


def suppress(
    path: str,
    data: bytes,
    text: str,
    findings: Sequence[Finding],
    rules: Sequence[Rule],
    on: frozenset[str] | None,
    *,
    partial: bool = False,
) -> list[Finding]:
    """The `findings` of one file that no comment silences, and one GL002 for each comment that silences nothing.

    `rules` are all that there are and `on` the codes that were looked for in this file. None stands for a file that
    could not be checked: then nothing is known about what a comment would have silenced. `partial` says that there are
    other rules, which were left out: a comment may speak of them.
    """
    if not speaks(data, findings):
        return list(findings)
    from gradcheck_lint.source.comments import read

    remarks = read(text)
    if remarks.skip_file:
        return []
    used: set[tuple[Remark, int]] = set()
    lines = _Lines(remarks)
    kept = [finding for finding in findings if not _silenced(finding, lines, used)]
    if on is not None and CODE in on:
        told = _Judge(path, rules, on, used, partial).of(remarks)
        kept += [finding for finding in told if not _unsaid(finding, lines)]
    return kept


class _Lines:
    """The remarks of a file by the lines that they are about."""

    def __init__(self, remarks: Remarks) -> None:
        self.on: dict[int, list[Remark]] = {}  # line → the remarks on it
        self.around: dict[int, list[Remark]] = {}  # first line of a statement → those on its first and last line
        self.whole = [remark for remark in remarks.remarks if remark.whole]
        for remark in remarks.remarks:
            comment = remark.comment
            if remark.whole:
                continue
            self.on.setdefault(comment.line, []).append(remark)
            if comment.first < comment.last and comment.line in (comment.first, comment.last):
                self.around.setdefault(comment.first, []).append(remark)
        self.starts = sorted(self.around)

    def covering(self, span: Span) -> Iterator[Remark]:
        """The remarks that count for what is marked."""
        last = span.end_line - 1 if span.end_column == 1 and span.end_line > span.line else span.end_line
        near = self.on.get(span.line, []) + (self.on.get(last, []) if last != span.line else [])
        yield from near
        at = bisect_right(self.starts, span.line)  # statements do not overlap: only one can begin before and hold it
        for remark in self.around[self.starts[at - 1]] if at else ():
            if span.line <= remark.comment.last and remark not in near:
                yield remark
        yield from self.whole


def _silenced(finding: Finding, lines: _Lines, used: set[tuple[Remark, int]]) -> bool:
    """Whether a remark silences `finding`; notes in `used` each that does, with the place in its list."""
    hits = [
        (remark, index) for remark in lines.covering(finding.span) if (index := _index(remark, finding)) is not None
    ]
    used.update(hits)
    return bool(hits)


def _index(remark: Remark, finding: Finding) -> int | None:
    """Where in its list the remark names the rule of `finding`; 0 too if it names none and means all."""
    if remark.words is None:
        return 0
    for index, (_, word) in enumerate(remark.words):
        if word.upper() == finding.code:
            return index
        if remark.ours and (word.lower() == finding.slug or _begins(finding.code, word)):
            return index
    return None


def _begins(code: str, word: str) -> bool:
    """Whether a listed word is the beginning of a code: a family of rules."""
    return len(word) > 2 and code.startswith(word.upper())


def _unsaid(finding: Finding, lines: _Lines) -> bool:
    """Whether a comment on its line asks not to be told: one that names GL002, or a bare `noqa`."""
    return any(
        _index(remark, finding) is not None and not (remark.words is None and remark.ours)
        for remark in (*lines.on.get(finding.span.line, ()), *lines.whole)
    )


class _Judge:
    """Tells which remarks of a file do nothing."""

    def __init__(
        self,
        path: str,
        rules: Sequence[Rule],
        on: frozenset[str],
        used: Iterable[tuple[Remark, int]],
        partial: bool,
    ) -> None:
        self._path = path
        self._rules = rules
        self._names: Mapping[str, Rule] = {name: rule for rule in rules for name in (rule.code, rule.slug)}
        self._looked_for = frozenset(rule.code for rule in rules if rule.code in on and "source" in rule.witnesses)
        usual = {rule.code for rule in rules if getattr(rule, "default", True) and "source" in rule.witnesses}
        self._partial = partial
        self._all_on = usual <= on and not partial
        self._used = frozenset(used)

    def of(self, remarks: Remarks) -> Iterator[Finding]:
        for slip in remarks.slips:
            yield self._finding(self._span(slip.comment, slip.start, slip.end), slip.message, help=slip.help)
        for remark in remarks.remarks:
            if remark.words:
                yield from self._unknown(remark, remark.words)
                yield from self._idle(remark, remark.words)
            elif remark.ours and remark.words is None and self._all_on and (remark, 0) not in self._used:
                yield self._useless(remark, "nothing is found here, so nothing is suppressed")
            elif remark.words is not None:
                yield self._useless(remark, "this suppression names no rule, and suppresses nothing")

    def _rules_of(self, remark: Remark, word: str) -> Sequence[Rule]:
        """The rules that a listed word names; `noqa` lists whole codes only."""
        rule = self._names.get(word.upper()) or (self._names.get(word.lower()) if remark.ours else None)
        if rule is not None:
            return [rule]
        return [rule for rule in self._rules if remark.ours and _begins(rule.code, word)]

    def _unknown(self, remark: Remark, words: Sequence[tuple[int, str]]) -> Iterator[Finding]:
        """One finding for each listed word that is no rule; what another linter may know is left alone."""
        for at, word in words if not self._partial else ():
            if not self._rules_of(remark, word) and (remark.ours or _CODE.fullmatch(word)):
                span = self._span(remark.comment, at, at + len(word))
                yield self._finding(span, f"`{word}` is no rule, and suppresses nothing", help=self._cure(word))

    def _cure(self, word: str) -> str:
        from gradcheck_lint.registry import nearest_rule

        near = nearest_rule(self._rules, word)
        return f"write `{near}`, if that is what you mean" if near else "see `gradlint rules` for what there is"

    def _idle(self, remark: Remark, words: Sequence[tuple[int, str]]) -> Iterator[Finding]:
        """One finding for all listed rules that silence nothing, if there are any."""
        idle = {
            index: f"`{word}`"
            for index, (_, word) in enumerate(words)
            if (remark, index) not in self._used and self._all_looked_for(self._rules_of(remark, word))
        }
        if not idle:
            return
        names = list(dict.fromkeys(idle.values()))
        listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
        message = f"{listed} {'suppresses' if len(names) == 1 else 'suppress'} nothing here"
        if len(idle) == len(words):
            yield self._useless(remark, message)
            return
        title = f"delete {listed} from the list"
        kept = [word for index, (_, word) in enumerate(words) if index not in idle]
        (first, _), (last, word) = words[0], words[-1]
        edit = Edit(self._span(remark.comment, first, last + len(word)), ", ".join(kept))
        span = self._span(remark.comment, remark.start, remark.end)
        yield self._finding(span, message, help=title, fix=Fix(title, Safety.SAFE, (edit,)))

    def _all_looked_for(self, rules: Sequence[Rule]) -> bool:
        """Whether all of some rules were looked for in code, of which there is at least one."""
        codes = {rule.code for rule in rules if "source" in rule.witnesses}
        complete = len(rules) == 1 or not self._partial
        return complete and bool(codes) and codes <= self._looked_for - {CODE}

    def _useless(self, remark: Remark, message: str) -> Finding:
        """A finding whose fix deletes all of the remark."""
        title = "delete the comment"
        fix = Fix(title, Safety.SAFE, (Edit(self._room(remark), ""),))
        span = self._span(remark.comment, remark.start, remark.end)
        return self._finding(span, message, help=title, fix=fix)

    def _room(self, remark: Remark) -> Span:
        """What goes when the remark is deleted: also the space around it, and the line if nothing else is on it."""
        comment, text = remark.comment, remark.comment.text
        before, after = text[: remark.start].rstrip(), text[remark.end :].lstrip()
        if after:
            return self._span(comment, remark.start, len(text) - len(after))
        if before:
            return self._span(comment, len(before), len(text))
        if comment.before.strip():
            return self._span(comment, len(comment.before.rstrip()) - len(comment.before), len(text))
        if comment.at_end:
            return self._span(comment, -len(comment.before), len(text))
        return Span(self._path, comment.line, 1, comment.line + 1, 1)

    def _span(self, comment: Comment, start: int, end: int) -> Span:
        return Span(self._path, comment.line, comment.column + start, comment.line, comment.column + end)

    def _finding(self, span: Span, message: str, *, help: str, fix: Fix | None = None) -> Finding:
        return Finding(
            code=CODE,
            slug=SLUG,
            severity=Severity.WARNING,
            confidence=Confidence.HIGH,
            message=message,
            span=span,
            label="this comment has no effect",
            why="a comment that hides nothing today can hide a real mistake tomorrow",
            help=help,
            fix=fix,
        )
