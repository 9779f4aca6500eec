"""What every sighting has: where and when it was, and of which optimizer. The kinds of them are in `sightings`.

A sighting is plain data, made by the watcher or one of its checks for the rules to judge. Each kind is a class with
named fields, marked by `kind`; rules name the classes that they want in `Rule.watches`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from gradcheck_lint.runtime.structs import frozen, later

if TYPE_CHECKING:
    from typing_extensions import dataclass_transform

    from gradcheck_lint.runtime.record import Site, Watched

    T = TypeVar("T")

    @dataclass_transform(frozen_default=True, kw_only_default=True, eq_default=False)
    def kind(cls: type[T]) -> type[T]:
        """Make a class a kind of sighting: a frozen dataclass whose fields are given by name."""

else:

    def kind(cls):
        return later(cls, frozen=True, kw_only=True, eq=False)


@frozen
class Scene:
    """Where and when something was seen."""

    step: int  # of the optimizer, counted from 1; 0 before its first
    site: Site | None
    optimizer: Watched | None = None
    built: Site | None = None  # where the optimizer was built
    stepped: Site | None = None  # where it stepped last
    backward: Site | None = None  # the last backward that reached what it holds
    zeroed: Site | None = None  # where its gradients were cleared last


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Sighting:
    """Something that a rule may want to judge. `names` are the parameters or modules that it is about."""

    scene: Scene
    names: tuple[str, ...] = field(default=(), kw_only=True)

    @property
    def step(self) -> int:
        return self.scene.step

    @property
    def site(self) -> Site | None:
        """The line that it is about."""
        return self.scene.site

    @property
    def optimizer(self) -> Watched | None:
        return self.scene.optimizer

    @property
    def built(self) -> Site | None:
        return self.scene.built

    @property
    def stepped(self) -> Site | None:
        return self.scene.stepped

    @property
    def backward(self) -> Site | None:
        return self.scene.backward

    @property
    def at_step(self) -> str:
        """ "at step 2 of SGD", to begin a sentence with."""
        return f"at step {max(self.step, 1)} of {self.optimizer.label if self.optimizer else 'the run'}"

    def source(self, default: str = "") -> str:
        """The user's own text of the line that it is about, or `default`."""
        return written(self.site, default)

    def others(self) -> tuple[str, ...]:
        """The optimizers that it names beside its own."""
        return ()


def written(site: Site | None, default: str = "") -> str:
    """The user's own text of a call, or `default` where it is not known."""
    return site.text if site is not None and site.text else default
