"""Is what should be trained trained: what the user named in `expect_trained=`, and adapters?

Sightings: ShouldBeTrained (parameters of that name are frozen, in no optimizer or without a gradient, or there are none
of that name) and AdaptersFrozen (all adapters that an optimizer was given are frozen, while something else learns).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gradcheck_lint.runtime import patches
from gradcheck_lint.runtime.check import Check
from gradcheck_lint.runtime.sightings.mode import AdaptersFrozen, ShouldBeTrained, Untrained

if TYPE_CHECKING:
    from torch import Tensor

    from gradcheck_lint.runtime.observer import Observer
    from gradcheck_lint.runtime.session import Session
    from gradcheck_lint.runtime.sites import Mark

_AT = 2  # the step of an optimizer before which it is asked
_ADAPTER = re.compile(r"(?:^|[._])lora_[A-Za-z]|(?:^|\.)(?:prompt_encoder|ia3_)")


class Expected(Check):
    """Asks once, and once more for each optimizer that comes later."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._told: set[str] = set()

    def before_update(self, observer: Observer, mark: Mark | None) -> None:
        if observer.watched.steps != _AT:
            return
        known = dict(self.session.models.parameters())
        words = {word for session in patches.ACTIVE for word in session.options.expect_trained} - self._told
        for p in observer.parameters() if words else ():
            if not self.session.models.name(p):
                known.setdefault(observer.name(p), p)
        for word in sorted(words):
            self._ask(observer, mark, word, {name: p for name, p in known.items() if name.startswith(word)})
        self._adapters(observer, known)

    def _ask(self, observer: Observer, mark: Mark | None, word: str, named: dict[str, Tensor]) -> None:
        held, fed = self.session.roster.held(), self.session.roster.fed()
        frozen = tuple(name for name, p in named.items() if not p.requires_grad)
        unheld = tuple(name for name, p in named.items() if p.requires_grad and id(p) not in held)
        ids = observer.ids()
        dry = tuple(
            name
            for name, p in named.items()
            if p.requires_grad and id(p) in ids and p.grad is None and id(p) not in fed
        )
        lacks = ((frozen, Untrained.FROZEN), (unheld, Untrained.UNHELD), (dry, Untrained.DRY))
        found = next(((names, why) for names, why in lacks if names), None)
        if found is None and not named:
            found = (), Untrained.NAMELESS
        if found is not None:
            self._told.add(word)
            self.session.take(ShouldBeTrained(observer.scene(mark), names=found[0], word=word, reason=found[1]))

    def _adapters(self, observer: Observer, known: dict[str, Tensor]) -> None:
        adapters = {name: p for name, p in known.items() if _ADAPTER.search(name)}
        ids = observer.ids()
        mine = tuple(name for name, p in adapters.items() if id(p) in ids)
        if mine and observer.received and not any(p.requires_grad for p in adapters.values()):
            self.session.take(AdaptersFrozen(observer.scene(observer.mark_of("step")), names=mine))
