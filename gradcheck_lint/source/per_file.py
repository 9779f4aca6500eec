"""`per-file-ignores`: which rules are turned off in a file, for the linter and for what a run finds there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gradcheck_lint.errors import ConfigError, shown
from gradcheck_lint.source.discovery import is_pattern, within

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pathspec import GitIgnoreSpec

    from gradcheck_lint.config import Settings
    from gradcheck_lint.rule import Rule


class PerFileIgnores:
    """Those of the settings; raises ConfigError for a word that is no rule and for a pattern that is none."""

    def __init__(self, settings: Settings, known: Sequence[Rule]) -> None:
        self._parts: list[tuple[Path, GitIgnoreSpec, bool, frozenset[str]]] = []
        for each in settings.lineage():
            if each.per_file_ignores:
                self._add(each, known, partial=bool(settings.left_out))

    def _add(self, settings: Settings, known: Sequence[Rule], *, partial: bool) -> None:
        from pathspec import GitIgnoreSpec

        from gradcheck_lint import registry

        root = Path(settings.root).absolute()  # the program that is run may go elsewhere
        origin = "per-file-ignores" + (f" of {shown(settings.source)}" if settings.source else "")
        for pattern, words in settings.per_file_ignores:
            bare = pattern.removeprefix("!")
            if not bare.strip() or not is_pattern(bare):
                raise ConfigError(f'"{pattern}" in {origin} is no pattern')
            spec = GitIgnoreSpec.from_lines([bare])
            codes = registry.codes(known, words, origin, partial=partial)
            self._parts.append((root, spec, not pattern.startswith("!"), codes))

    def __bool__(self) -> bool:
        return bool(self._parts)

    def codes(self, path: str | Path) -> frozenset[str]:
        """The codes that are off in the file at `path`."""
        return frozenset[str]().union(
            *(codes for root, spec, wanted, codes in self._parts if spec.match_file(within(path, root)) is wanted)
        )
