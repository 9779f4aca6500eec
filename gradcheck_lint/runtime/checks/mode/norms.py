"""Whether an optimizer that was given a whole model can train nothing of it but its norm layers.

Sighting: NormsAlone. Such a model still learns a little, so that nobody looks at the flags; the condition that was
to freeze the norm layers was turned round, or a library froze all that it did not think of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.laws.mode import Flag, flag
from gradcheck_lint.runtime.check import Check
from gradcheck_lint.runtime.sightings.mode import NormsAlone

if TYPE_CHECKING:
    from torch.nn import Module

    from gradcheck_lint.runtime.observer import Observer
    from gradcheck_lint.runtime.sites import Mark

LAYERS = 2  # other layers that have to be frozen, and held all the same


class Norms(Check):
    """Looks once, when the models of an optimizer are known."""

    def before_update(self, observer: Observer, mark: Mark | None) -> None:
        if observer.watched.steps > 2:
            if all(other.watched.steps > 2 for other in self.session.observers.values()):
                self.session.guard.dismiss("before_update", self.before_update)
            return
        held = observer.ids()
        alone: list[str] = []
        frozen: list[str] = []
        layers = 0
        for name, module in self.session.models.modules():
            own = [(key, p) for key, p in module._parameters.items() if p is not None]
            if any(id(p) not in held for _, p in own):
                return  # somebody has chosen what the optimizer gets
            norm = _is_norm(module)
            flags = {flag(requires_grad=p.requires_grad, fed=p.grad is not None) for _, p in own}
            if not norm and not flags <= {Flag.FROZEN}:
                return
            layers += bool(own) and not norm
            (alone if norm else frozen).extend(f"{name}.{key}" for key, p in own if norm is p.requires_grad)
        if alone and layers >= LAYERS:
            self.session.take(NormsAlone(observer.scene(mark), names=tuple(alone), frozen=tuple(frozen)))


def _is_norm(module: Module) -> bool:
    return "norm" in type(module).__name__.lower()
