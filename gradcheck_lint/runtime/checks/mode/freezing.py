"""Is what the user named in `expect_frozen=` really frozen? Looked at before the first updates, and now and then.

Sighting: ShouldBeFrozen (parameters of that name require grad, or there are none of that name).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.runtime import patches
from gradcheck_lint.runtime.check import Check
from gradcheck_lint.runtime.sightings.mode import ShouldBeFrozen

if TYPE_CHECKING:
    from gradcheck_lint.runtime.observer import Observer
    from gradcheck_lint.runtime.session import Session
    from gradcheck_lint.runtime.sites import Mark

_EARLY = 2


class Freezing(Check):
    """Asks each named parameter whether it requires grad; whether it moves is seen by `writes`."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._told: set[str] = set()

    def before_update(self, observer: Observer, mark: Mark | None) -> None:
        steps = observer.watched.steps
        if steps > _EARLY and not observer.sampling.is_sample(steps):
            return
        words = {word for session in patches.ACTIVE for word in session.options.expect_frozen} - self._told
        if not words:
            return
        known = dict(self.session.models.parameters())
        ids = observer.ids()
        for p in observer.parameters():
            if not self.session.models.name(p):
                known.setdefault(observer.name(p), p)
        for word in sorted(words):
            named = {name: p for name, p in known.items() if name.startswith(word)}
            loose = [name for name, p in named.items() if p.requires_grad and (id(p) in ids or p.grad is not None)]
            if loose or (not named and known and steps == _EARLY):
                self._told.add(word)
                held = sum(id(named[name]) in ids for name in loose)
                self.session.take(ShouldBeFrozen(observer.scene(mark), names=tuple(loose), word=word, held=held))
