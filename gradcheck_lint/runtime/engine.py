"""Asks the rules about what was sighted, and keeps what they find: once for each mistake and place."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gradcheck_lint.finding import Confidence, Finding, Related, Span
from gradcheck_lint.runtime.comments import silenced

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gradcheck_lint.rule import Rule
    from gradcheck_lint.runtime.record import Sighting, Site


class Engine:
    """The rules that watch, and what they have found."""

    def __init__(self, rules: Sequence[Rule], least: Confidence, tell: Callable[[Finding], None]) -> None:
        self._by_kind: dict[str, list[Rule]] = defaultdict(list)
        for rule in rules:
            for kind in rule.watches:
                self._by_kind[kind].append(rule)
        self._rules = rules
        self._silenced: set[tuple[str, str, int, str]] = set()
        self._least = least
        self._tell = tell
        self._found: dict[tuple[str, str, int, str], Finding] = {}
        self.problems: list[str] = []

    @property
    def rules(self) -> int:
        """How many rules watch."""
        return len({id(rule) for rules in self._by_kind.values() for rule in rules})

    def wants(self, kind: str) -> bool:
        """Whether some rule listens to this kind of sighting."""
        return kind in self._by_kind

    def take(self, sighting: Sighting) -> None:
        """Let the rules judge; may raise what `tell` raises, and nothing else."""
        for rule in self._by_kind.get(sighting.kind, ()):
            report = _Report(rule, sighting)
            try:
                rule.on_sighting(sighting, report)
            except Exception as error:  # a mistake of the rule's must not reach the program
                self.problems.append(f"{rule.code} failed on {sighting.kind}: {type(error).__name__}: {error}")
                continue
            for subject, finding in report.findings:
                self._keep(subject, finding)

    def _keep(self, subject: str, finding: Finding) -> None:
        key = (finding.code, finding.span.path, finding.span.line, subject)
        if key in self._found or finding.confidence < self._least or key in self._silenced:
            return
        if silenced(finding, self._rules):
            self._silenced.add(key)
            return
        self._found[key] = finding
        self._tell(finding)

    def adopt(self, finding: Finding, rank: int) -> None:
        """Keep and tell what only another rank has found."""
        self._keep(f"rank {rank}", replace(finding, label=f"on rank {rank}, {finding.label}"))

    @property
    def findings(self) -> list[Finding]:
        """In the order of the steps at which they were first seen, then by place."""
        return sorted(self._found.values(), key=lambda finding: (finding.step or 0, finding.order))


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
            span=_span(site or sighting.site or sighting.sites.get("step") or sighting.sites.get("built")),
            label=label,
            why=why,
            help=help,
            note=note,
            related=tuple(Related(words, _span(place)) for words, place in related if place is not None),
            evidence="run",
            step=sighting.step or None,
        )
        self.findings.append((subject, finding))


def _span(site: Any) -> Span:
    if site is None:
        return Span("<unknown>", 1, 1, 1, 1)
    return Span(site.path, site.line, site.column, site.end_line or site.line, site.end_column or site.column)
