"""What else is looked at while a run is watched: each check is a class with the hooks that it needs.

A check turns what it sees into sightings and leaves the judgement to the rules. It lives in a module of this folder
and is listed here; the session calls its hooks and guards each of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor
    from torch.optim import Optimizer

    from gradcheck_lint.runtime.observer import Observer
    from gradcheck_lint.runtime.record import Event
    from gradcheck_lint.runtime.session import Session
    from gradcheck_lint.runtime.sites import Mark


class Check:
    """Empty hooks, and the kinds of calls, as in `patches`, for `call_begins` and `call_ended`."""

    hears: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, session: Session) -> None:
        self.session = session

    def attached(self, observer: Observer) -> None:
        """An optimizer is watched from now on."""

    def model_found(self) -> None:
        """`session.models` has changed."""

    def optimizer_building(self, given: object, mark: Mark | None) -> None:
        """An optimizer is about to be built of `given`, which nobody has read yet."""

    def optimizer_built(
        self, optimizer: Optimizer, given: object, mark: Mark | None, observer: Observer | None
    ) -> None:
        """An optimizer was built while the session runs; `given` are its parameters as they were handed over."""

    def optimizer_refused(self, optimizer: Optimizer, given: object, error: Exception, mark: Mark | None) -> None:
        """torch refused to build an optimizer."""

    def backward_begins(self, roots: Sequence[Tensor], event: Event, options: dict[str, Any]) -> None:
        """backward() is called on `roots`."""

    def backward_ended(self, event: Event, touched: Sequence[Observer]) -> None:
        """It has put gradients into parameters of these optimizers, those of them that are awake."""

    def backward_failed(self, event: Event, error: BaseException) -> None:
        """It has raised; heard whether or not an optimizer is awake. What the hook raises goes no further."""

    def before_update(self, observer: Observer, mark: Mark | None) -> None:
        """An optimizer is about to read its gradients."""

    def after_update(self, observer: Observer) -> None:
        """The update is done."""

    def stepped(self, observer: Observer, mark: Mark | None) -> None:
        """An optimizer reads its gradients; a closure may make it do so often."""

    def glance_at_loss(self, root: Tensor) -> None:
        """backward() is called on one tensor at a step that is checked, but not thoroughly."""

    def glance(self, observer: Observer, mark: Mark | None) -> None:
        """Such a step is over, and its gradients are still there. All glances together take some ten microseconds.

        mark: where the optimizer stepped the last time that this was looked at.
        """

    def call_begins(self, kind: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A call that `patches` wraps begins; kinds as there. Those of every step are heard only while one is awake."""

    def call_ended(
        self, kind: str, args: tuple[Any, ...], kwargs: dict[str, Any], result: object, error: BaseException | None
    ) -> None:
        """It has ended."""

    def ended(self) -> None:
        """The watching is over; all hooks are still in place. Not called where another thread still trains."""

    def leave(self) -> None:
        """Take out of torch what was put in; called in every case."""


def checks() -> list[type[Check]]:
    """All checks, in the order in which they are asked."""
    from gradcheck_lint.runtime.checks.attributes import Attributes
    from gradcheck_lint.runtime.checks.bypassed import Bypassed
    from gradcheck_lint.runtime.checks.construction import Construction
    from gradcheck_lint.runtime.checks.effects import Effects
    from gradcheck_lint.runtime.checks.freezing import Freezing
    from gradcheck_lint.runtime.checks.functions import Functions
    from gradcheck_lint.runtime.checks.holders import Holders
    from gradcheck_lint.runtime.checks.identity import Identity
    from gradcheck_lint.runtime.checks.leaks import Leaks
    from gradcheck_lint.runtime.checks.losses import Losses
    from gradcheck_lint.runtime.checks.modes import Modes
    from gradcheck_lint.runtime.checks.placement import Placement
    from gradcheck_lint.runtime.checks.plateaus import Plateaus
    from gradcheck_lint.runtime.checks.precision import Precision
    from gradcheck_lint.runtime.checks.ranks import Ranks
    from gradcheck_lint.runtime.checks.rates import Rates
    from gradcheck_lint.runtime.checks.rebuilt import Rebuilt
    from gradcheck_lint.runtime.checks.restored import Restored
    from gradcheck_lint.runtime.checks.retained import Retained
    from gradcheck_lint.runtime.checks.rounds import Rounds
    from gradcheck_lint.runtime.checks.scalars import Scalars
    from gradcheck_lint.runtime.checks.storage import Storage
    from gradcheck_lint.runtime.checks.strays import Strays
    from gradcheck_lint.runtime.checks.units import Units
    from gradcheck_lint.runtime.checks.values import Values
    from gradcheck_lint.runtime.checks.writes import Writes
    from gradcheck_lint.runtime.norms import Norms

    return [
        Functions,
        Holders,
        Bypassed,
        Strays,
        Identity,
        Attributes,
        Storage,
        Construction,
        Norms,
        Freezing,
        Losses,
        Plateaus,
        Leaks,
        Retained,
        Rounds,
        Rates,
        Rebuilt,
        Values,
        Effects,
        Modes,
        Restored,
        Placement,
        Precision,
        Writes,
        Units,
        Scalars,
        Ranks,  # the last: it hands over what all others have found
    ]
