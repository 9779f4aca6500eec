"""What the rules have reported of an island: each mistake once, as sure as it can be said of it.

Whether the project puts something else in the place of what a finding knows of torch is known when all of it has been
interpreted. Until then, what was said of one place is kept with the text that it speaks of.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from gradcheck_lint.finding import Confidence, Finding, Safety, Span
from gradcheck_lint.source.replaced import doubtful

if TYPE_CHECKING:
    from gradcheck_lint.source.place import Place
    from gradcheck_lint.source.project import Module, Project
    from gradcheck_lint.source.timeline import Timeline

Key = tuple[str, Span]


class _Spoken(NamedTuple):
    """What a finding of high confidence speaks of: the text of its places, and the files that these are in."""

    text: str
    files: frozenset[str]


_NOTHING = _Spoken("", frozenset())


class Reports:
    """The findings by their code and place, and for each of them the timeline that was judged then."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.found_in: dict[Key, Timeline] = {}
        self._said: dict[Key, dict[tuple[Confidence, _Spoken], Finding]] = {}

    def add(self, finding: Finding, places: Sequence[Place], judged: Timeline | None) -> bool:
        """Take in what was found; `places` are those that it names. Is it the first, or surer than those before it?"""
        key = finding.code, finding.span
        said = self._said.setdefault(key, {})
        first = all(before < finding.confidence for before, _ in said)
        if first and judged is not None:
            self.found_in[key] = judged
        spoken = self._spoken(places) if finding.confidence is Confidence.HIGH else _NOTHING
        said.setdefault((finding.confidence, spoken), finding)
        return first

    def _spoken(self, places: Sequence[Place]) -> _Spoken:
        modules = self._modules()
        told = [place.code for place in places]
        files: set[str] = set()
        for place in places:
            module = modules.get(place.chunk.path)
            if module is not None:
                told += module.outline.lines[place.span.line - 1 : place.span.end_line]
                files.add(module.path)
        return _Spoken("\n".join(told), frozenset(files))

    def findings(self, replaced: set[str]) -> dict[Key, Finding]:
        """What was found, now that it is known which attributes of torch the code gives another value."""
        modules = self._modules()
        for_good = frozenset(replaced).union(*(module.replaced.for_good for module in modules.values()))
        found: dict[Key, Finding] = {}
        for key, said in self._said.items():
            for (confidence, spoken), finding in said.items():
                if confidence is Confidence.HIGH:
                    names = for_good.union(*(modules[path].replaced.for_a_while for path in spoken.files))
                    if names and doubtful(names, spoken.text):
                        confidence = Confidence.MEDIUM
                if key not in found or found[key].confidence < confidence:
                    found[key] = _at(finding, confidence)
        return found

    def _modules(self) -> dict[str, Module]:
        return {module.path: module for module in self.project.modules.values() if module is not None}


def _at(finding: Finding, confidence: Confidence) -> Finding:
    """A finding with some confidence: a fix is safe only where every path was followed."""
    fix = finding.fix
    if fix is not None and confidence < Confidence.HIGH and fix.safety is Safety.SAFE:
        fix = dataclasses.replace(fix, safety=Safety.UNSAFE)
    if fix is finding.fix and confidence is finding.confidence:
        return finding
    return dataclasses.replace(finding, confidence=confidence, fix=fix)
