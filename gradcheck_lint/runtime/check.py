"""What a check is: hooks into a run that is watched."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor
    from torch.nn import Module
    from torch.optim import Optimizer

    from gradcheck_lint.runtime.call import Call
    from gradcheck_lint.runtime.observer import Observer
    from gradcheck_lint.runtime.record import Event
    from gradcheck_lint.runtime.session import Session
    from gradcheck_lint.runtime.sites import Mark


class Check:
    """Empty hooks, and the kinds of calls, as in `patches`, for `call_begins` and `call_ended`."""

    hears: ClassVar[frozenset[Call]] = frozenset()

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

    def mode_switched(self, module: Module, mode: bool) -> None:
        """`train(mode)` is called on a module, or `eval()`; not heard of those inside of it, to which it is handed on.

        Heard in every step, whether or not an optimizer is awake, so it should do next to nothing.
        """

    def call_begins(self, kind: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A call that `patches` wraps begins; kinds as there. Those of every step are heard only while one is awake."""

    def call_ended(
        self, kind: Call, args: tuple[Any, ...], kwargs: dict[str, Any], result: object, error: BaseException | None
    ) -> None:
        """It has ended."""

    def ended(self) -> None:
        """The watching is over; all hooks are still in place. Not called where another thread still trains."""

    def leave(self) -> None:
        """Take out of torch what was put in; called in every case."""
