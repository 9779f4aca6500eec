"""What is done with an island, and what comes of it: plain data that processes hand to each other."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from gradcheck_lint.result import Problem
from gradcheck_lint.source.file import SourceFile

if TYPE_CHECKING:
    from gradcheck_lint.finding import Finding
    from gradcheck_lint.rule import Rule
    from gradcheck_lint.source.project import Finder, Question


@dataclass(frozen=True, slots=True)
class Work:
    """What to do with each island: which rules are on, what finds the files that imports mean, which text matters."""

    rules: tuple[Rule, ...]
    finder: Finder
    triggers: tuple[str, ...] = ()  # of all rules: what is found by one does not depend on which others are on


class Basis(NamedTuple):
    """What the findings of an island rest on beside its own files, as it was when they were made."""

    others: tuple[tuple[str, str | None], ...]  # the files that were read, with their digests; None: it could not be
    asked: tuple[tuple[Question, str | None], ...]  # which file each import means; None: there was none


class Outcome(NamedTuple):
    """What came of an island.

    `cut` are the entry points and classes that were followed or judged in part only, because all of it would have
    been too much work: path and qualified name, which is empty for a module's own code. `training` are the paths of
    the files in which training code was seen.
    """

    findings: tuple[Finding, ...]
    problems: tuple[Problem, ...]
    basis: Basis = Basis((), ())
    cut: tuple[tuple[str, str], ...] = ()
    training: tuple[str, ...] = ()


class Island(NamedTuple):
    """Files that belong together. What is too much to have in memory at once is several islands of its size.

    `beside` are the files of the others then: all is known of them, and findings in them are told, but what nothing
    here calls is followed there.
    """

    files: tuple[SourceFile, ...]
    beside: tuple[SourceFile, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of its own files."""
        return sum(file.size for file in self.files)

    @property
    def paths(self) -> set[str]:
        """The files that findings may be in."""
        return {file.path for file in (*self.files, *self.beside)}


Analyse = Callable[[Work, Island], Outcome]
Outcomes = Generator[tuple[Island, Outcome], None, None]


def attempt(analyse: Analyse, work: Work, island: Island) -> Outcome:
    """Analyse an island; if that breaks altogether, that is a problem of each of its files."""
    try:
        return analyse(work, island)
    except Exception as error:
        return Outcome((), tuple(Problem.of(file.path, error) for file in island.files))
