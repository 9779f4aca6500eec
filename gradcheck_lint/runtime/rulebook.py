"""The rules of a run, loaded when there is something to judge: for a sighting those that want it, for a finding all.

Loading all takes longer than all else that watching begins with, and most runs have no finding. What goes wrong with it
after training has begun stops nothing: then gradlint's own rules judge, and the record says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, overload

from gradcheck_lint.errors import ConfigError

if TYPE_CHECKING:
    from gradcheck_lint.config import Settings
    from gradcheck_lint.rule import Rule
    from gradcheck_lint.runtime.sighting import Sighting


class Rulebook(Sequence["Rule"]):
    """The rules that are on. As a sequence it is all of them, and loads them."""

    def __init__(self, settings: Settings | None = None) -> None:
        """Where settings name some rules they are loaded at once, and ConfigError is raised here."""
        self._settings = settings
        self._rules: Sequence[Rule] | None = None
        self._some: dict[str, Rule] = {}  # by code: those that were loaded for a sighting, as long as not all are
        self._texts: dict[str, str] | None = None  # see `registry.texts`; none where there are others than our own
        self.problem = ""  # why these are not the rules that were wanted
        if settings is not None and (settings.selections or settings.rule_folders):
            self._rules = self._load()

    def watching(self, kind: type[Sighting]) -> list[Rule]:
        """Those that want sightings of this kind."""
        if self._rules is None:
            return self._of(kind)
        return [rule for rule in self._rules if issubclass(kind, rule.watches)]

    def _of(self, kind: type[Sighting]) -> list[Rule]:
        """The same, with no more of them loaded than those that name the kind, or what it derives from."""
        from gradcheck_lint import registry

        if self._texts is None:
            self._texts = {} if registry.may_have_packs() else registry.texts()
        if not self._texts:
            return self.watching(kind) if self._opened() else []
        words = [base.__name__ for base in kind.__mro__ if base.__module__.startswith(_SIGHTINGS)]
        names = [name for name, text in self._texts.items() if any(word in text for word in words)]
        for rule in registry.load_own(names):
            if getattr(rule, "default", True):
                self._some.setdefault(rule.code, rule)
        return [rule for _, rule in sorted(self._some.items()) if issubclass(kind, rule.watches)]

    def _load(self, *, packs: bool = True) -> list[Rule]:
        from gradcheck_lint import registry
        from gradcheck_lint.config import Settings

        settings = self._settings or Settings()
        found = registry.select(registry.load(settings.rule_folders, packs=packs), settings)
        return [self._some.get(rule.code, rule) for rule in found]

    def _opened(self) -> Sequence[Rule]:
        if self._rules is None:
            try:
                self._rules = self._load()
            except ConfigError as error:
                self.problem = str(error)
                self._rules = self._load(packs=False)
            self._some, self._texts = {}, None
        return self._rules

    @overload
    def __getitem__(self, index: int) -> Rule: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Rule]: ...

    def __getitem__(self, index: int | slice) -> Rule | Sequence[Rule]:
        return self._opened()[index]

    def __len__(self) -> int:
        return len(self._opened())


_SIGHTINGS = "gradcheck_lint.runtime.sightings"
