"""The leaves that backward fills and no watched optimizer holds, as they are met."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.nn import Module

    from gradcheck_lint.runtime.checks.holding.stray import Stray


class Leaves:
    """All of them, by id."""

    def __init__(self) -> None:
        self.found: dict[int, Stray] = {}
        self.pending: dict[int, Stray] = {}  # what is told unless something comes in between
        self.news: dict[int, list[Stray]] = {}  # by backward: parameters that were met for the first time
        self.tensors: list[Stray] = []  # those that are no parameters

    def __bool__(self) -> bool:
        return bool(self.found or self.pending)

    def known(self) -> set[int]:
        """The ids of the tensors whose gradients are looked at."""
        return {*self.found, *self.pending, *(id(stray.ref()) for stray in self.tensors)}

    def forsake(self, ids: set[int] | None) -> None:
        """Look no more at these, None for whatever there is."""
        strays = [*self.found.values(), *self.pending.values(), *self.tensors]
        for news in self.news.values():
            strays += news
        for stray in strays:
            if ids is None or id(stray.ref()) in ids:
                stray.ref = _gone
        self.found = {key: stray for key, stray in self.found.items() if stray.ref is not _gone}
        self.pending = {key: stray for key, stray in self.pending.items() if stray.ref is not _gone}
        self.tensors = [stray for stray in self.tensors if stray.ref is not _gone]
        self.news = {number: [s for s in news if s.ref is not _gone] for number, news in self.news.items()}

    def held(self, ids: set[int], *, found: bool) -> None:
        """An optimizer holds these, and is watched if they are not to be `found` any more either."""
        for known in (self.found, self.pending) if found else (self.pending,):
            for key in ids & known.keys():
                del known[key]

    def within(self, module: Module, *, recurse: bool) -> list[Stray]:
        """What is known of the parameters of this module."""
        known = self.found | self.pending
        strays = [(known.get(id(p)), p) for p in module.parameters(recurse=recurse)]
        return [stray for stray, p in strays if stray is not None and stray.ref() is p]


def _gone() -> None:
    """The reference to a leaf that must not be looked at any more."""
