"""Asks the rules about what was sighted, and keeps what they find: once for each mistake and place.

A rule may yield to others (`Rule.yields_to`): what it finds is withheld beside a finding that tells the cause, and is
a note of that. Where the cause is seen later, what was told before it is not in the record any more.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from gradcheck_lint.finding import Confidence, Finding, Related, Span
from gradcheck_lint.runtime import sites
from gradcheck_lint.runtime.comments import silenced
from gradcheck_lint.runtime.rulebook import Rulebook

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gradcheck_lint.rule import Rule
    from gradcheck_lint.runtime.record import Site
    from gradcheck_lint.runtime.sighting import Sighting


MOST = 1000  # findings, and problems, that are kept


class _About(NamedTuple):
    """What a finding is about, to tell whether another is about the same."""

    optimizer: int | None
    label: str  # what the optimizer was called then
    others: frozenset[str]  # the optimizers that it names beside it
    step: int
    line: tuple[str, int]
    names: frozenset[str]
    confidence: Confidence

    def explains(self, other: _About, what: str) -> bool:
        """Whether the other is withheld beside this one, if its rule yields to this one's; see `Rule.yields_to`."""
        if self.confidence < other.confidence:
            return False
        if self.optimizer != other.optimizer and other.label not in self.others:
            return False
        if what == "names":
            return other.names <= self.names
        return what == "optimizer" or bool(getattr(self, what) == getattr(other, what))


class _Kept(NamedTuple):
    rule: Rule
    about: _About
    finding: Finding


class Engine:
    """The rules that watch, and what they have found."""

    def __init__(
        self,
        rules: Sequence[Rule],
        least: Confidence,
        tell: Callable[[Finding], None],
        ignored: Callable[[str], frozenset[str]] | None = None,
        load: Callable[..., Any] = lambda function, *args: function(*args),
    ) -> None:
        """ignored: the codes that are off in a file, if some are. load: calls what may load rules."""
        self._rules = rules
        self._load = load
        self._opened = False  # whether all rules are loaded: not before something is found
        self._by_kind: dict[type[Sighting], list[Rule]] = {}  # the rules that want it, of each kind that has come
        self._silenced: set[tuple[str, str, int, str]] = set()
        self._least = least
        self._tell = tell
        self._ignored = ignored
        self._found: dict[tuple[str, str, int, str], _Kept] = {}
        self._adopted: dict[tuple[str, str, int, str], Finding] = {}  # from other ranks
        self._causes: dict[str, set[_About]] = {}  # by code: what was found, of those that something yields to
        self._by_step: set[str] = set()
        self._waiting: list[_Kept] = []  # what was kept, and is explained by what is about to be
        self.problems: list[str] = []
        self.left_out = 0  # findings beyond those that are kept

    def _open(self) -> None:
        """Look into all the rules."""
        self._opened = True
        for rule in self._rules:
            for code, what in rule.yields_to:
                self._causes.setdefault(code, set())
                if what == "step":
                    self._by_step.add(code)
        if isinstance(self._rules, Rulebook):
            self._note_missing(self._rules)

    def _note_missing(self, book: Rulebook) -> None:
        """Note why some rules are not there that were wanted, once."""
        if book.problem and book.problem not in self.problems:
            self._note_problem(book.problem)

    def wants(self, kind: type[Sighting]) -> bool:
        """Whether some rule listens to this kind of sighting."""
        return bool(self._wanting(kind))

    def _wanting(self, kind: type[Sighting]) -> list[Rule]:
        if kind not in self._by_kind:
            self._by_kind[kind] = self._load(self._watching, kind)
        return self._by_kind[kind]

    def _watching(self, kind: type[Sighting]) -> list[Rule]:
        if isinstance(self._rules, Rulebook):
            found = self._rules.watching(kind)
            self._note_missing(self._rules)
            return found
        return [rule for rule in self._rules if issubclass(kind, rule.watches)]

    def take(self, sighting: Sighting) -> None:
        """Let the rules judge; may raise what `tell` raises, and nothing else."""
        found: list[tuple[str, _Kept]] = []
        kind = type(sighting)
        for rule in self._wanting(kind):
            report = _Report(rule, sighting)
            try:
                rule.on_sighting(sighting, report)
            except Exception as error:  # a mistake of the rule's must not reach the program
                self._note_problem(f"{rule.code} failed on {kind.__name__}: {type(error).__name__}: {error}")
                continue
            found += [(subject, _Kept(rule, _about(sighting, one), one)) for subject, one in report.findings]
        found = [(subject, kept) for subject, kept in found if kept.finding.confidence >= self._least]
        if found and not self._opened:
            self._load(self._open)
        for _, kept in found:
            self._note_cause(kept)
        for subject, kept in found:
            if not self._explained(kept):
                self._keep(subject, kept)
        for kept in (*self._waiting, *(kept for _, kept in found if self._explained(kept))):
            self._note_consequence(kept)
        self._waiting.clear()

    def _note_problem(self, problem: str) -> None:
        if len(self.problems) < MOST:
            self.problems.append(problem)

    def steps(self) -> set[int]:
        """At which something was found."""
        return {kept.finding.step for kept in self._found.values() if kept.finding.step is not None}

    def _note_cause(self, cause: _Kept) -> None:
        """If this tells the cause of something else, that is withheld from now on, and what was kept of it goes."""
        code = cause.finding.code
        about = cause.about if code in self._by_step else cause.about._replace(step=0)
        if code not in self._causes or about in self._causes[code]:
            return
        self._causes[code].add(about)
        gone = [kept for kept in self._found.values() if self._explained(kept)]
        self._found = {key: kept for key, kept in self._found.items() if kept not in gone}
        self._waiting += gone

    def _note_consequence(self, kept: _Kept) -> None:
        """Say in the finding that tells the cause what else it explains."""
        whats = dict(kept.rule.yields_to)
        for key, cause in self._found.items():
            what = whats.get(cause.finding.code)
            if what is not None and cause.about.explains(kept.about, what):
                more = f"it explains {kept.finding.code} too: {kept.finding.message}"
                note = cause.finding.note
                if kept.finding.code not in note:
                    self._found[key] = cause._replace(
                        finding=replace(cause.finding, note=f"{note}; {more}" if note else more)
                    )
                return

    def _explained(self, kept: _Kept) -> bool:
        return any(
            cause.explains(kept.about, what) for code, what in kept.rule.yields_to for cause in self._causes[code]
        )

    def _keep(self, subject: str, kept: _Kept) -> None:
        """Keep and tell it, once; the most certain one of those that are the same."""
        finding = kept.finding
        key = _key(finding, subject)
        known = self._found.get(key)
        if known is not None:
            if finding.confidence > known.finding.confidence:
                self._found[key] = kept
        elif not self._is_silenced(key, finding):
            if len(self._found) >= MOST:
                self.left_out += 1
                return
            self._found[key] = kept
            self._tell(finding)

    def _is_silenced(self, key: tuple[str, str, int, str], finding: Finding) -> bool:
        if key not in self._silenced and (
            self._is_off(finding) or any(silenced(one, self._rules) for one in self._as_the_linter_says(finding))
        ):
            self._silenced.add(key)
        return key in self._silenced

    def _as_the_linter_says(self, finding: Finding) -> list[Finding]:
        """The finding, and what the linter may call the same mistake of this line: it sees the cause from the first."""
        codes = {
            code for rule in self._rules if rule.code == finding.code for code, what in rule.yields_to if what == "line"
        }
        causes = [rule for rule in self._rules if rule.code in codes]
        return [finding, *(replace(finding, code=rule.code, slug=rule.slug) for rule in causes)]

    def _is_off(self, finding: Finding) -> bool:
        """Whether the rule is turned off in the file, as the program or as the file system names it."""
        if self._ignored is None:
            return False
        path = sites.file(finding.span.path)
        return any(finding.code in self._ignored(name) for name in (path, os.path.realpath(path)))

    def adopt(self, finding: Finding, rank: int) -> None:
        """Keep and tell what only another rank has found."""
        finding = replace(finding, label=f"on rank {rank}, {finding.label}")
        key = _key(finding, f"rank {rank}")
        if key not in self._adopted and finding.confidence >= self._least and not self._is_silenced(key, finding):
            self._adopted[key] = finding
            self._tell(finding)

    @property
    def findings(self) -> list[Finding]:
        """In the order of the steps at which they were first seen, then by place."""
        found = [*(kept.finding for kept in self._found.values()), *self._adopted.values()]
        return sorted(found, key=lambda finding: (finding.step or 0, finding.order))


class _Report:
    """How a rule says that it found something in a run."""

    def __init__(self, rule: Rule, sighting: Sighting) -> None:
        self._rule = rule
        self._sighting = sighting
        self.findings: list[tuple[str, Finding]] = []

    def __call__(
        self,
        message: str,
        *,
        label: str,
        why: str,
        help: str,
        note: str = "",
        site: Site | None = None,
        related: Sequence[tuple[str, Site | None]] = (),
        confidence: Confidence = Confidence.HIGH,
        subject: str = "",
    ) -> None:
        rule, sighting = self._rule, self._sighting
        finding = Finding(
            code=rule.code,
            slug=rule.slug,
            severity=rule.severity,
            confidence=confidence,
            message=message,
            span=_span(site or sighting.site or sighting.stepped or sighting.built),
            label=label,
            why=why,
            help=help,
            note=note,
            related=tuple(Related(words, _span(place)) for words, place in related if place is not None),
            evidence="run",
            step=sighting.step or None,
        )
        self.findings.append((subject, finding))


def _key(finding: Finding, subject: str) -> tuple[str, str, int, str]:
    return finding.code, finding.span.path, finding.span.line, subject


def _about(sighting: Sighting, finding: Finding) -> _About:
    return _About(
        sighting.optimizer.index if sighting.optimizer else None,
        sighting.optimizer.label if sighting.optimizer else "",
        frozenset(sighting.others()),
        sighting.step,
        (finding.span.path, finding.span.line),
        frozenset(sighting.names),
        finding.confidence,
    )


def _span(site: Any) -> Span:
    if site is None:
        return Span("<unknown>", 1, 1, 1, 1)
    return Span(site.path, site.line, site.column, site.end_line or site.line, site.end_column or site.column)
