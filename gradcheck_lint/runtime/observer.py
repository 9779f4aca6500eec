"""Watching one optimizer: its parts, and what checks ask of it.

`subject` is the optimizer, `machine` follows what happens to its gradients and `verdicts` tells what is wrong with
that, `stepping` hears its steps, and `attention` says how closely the next one is looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradcheck_lint.runtime import sites
from gradcheck_lint.runtime.attention import Attention
from gradcheck_lint.runtime.machine import Machine
from gradcheck_lint.runtime.record import Moment
from gradcheck_lint.runtime.sighting import Scene
from gradcheck_lint.runtime.sites import resolve
from gradcheck_lint.runtime.stepping import Stepping
from gradcheck_lint.runtime.subject import Subject
from gradcheck_lint.runtime.verdicts import Verdicts

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

    from gradcheck_lint.runtime.record import Event, Watched
    from gradcheck_lint.runtime.session import Session


class Observer:
    """One optimizer under watch. `attach` hooks it, `detach` leaves it as it was."""

    def __init__(self, session: Session, optimizer: Optimizer, watched: Watched, built: sites.Mark | None) -> None:
        self.session = session
        self.watched = watched
        self.built = built
        self.owner = 0  # the thread that has last used, cleared or made its gradients; 0 if none has yet
        self.opaque = ""  # why breaches of this optimizer cannot be told, empty if they can
        self.broken = False  # it is known why its steps find no gradients: the model has other tensors now, say
        self.scaler_stepping = False
        self.away = False  # other threads work on it: it is counted and no more
        self.subject = Subject(session, optimizer, watched)
        self.verdicts = Verdicts(self)
        self.machine = Machine(self)
        self.attention = Attention(self)
        self.stepping = Stepping(self)
        self.sampling = self.attention.sampling
        self.window = self.machine.window  # backwards since the gradients were last used or cleared
        self.latest = self.machine.latest  # events, by kind

    # What is watched

    @property
    def optimizer(self) -> Optimizer | None:
        return self.subject.optimizer

    @property
    def label(self) -> str:
        return self.watched.label

    def parameters(self) -> list[Tensor]:
        """The tensors that the optimizer holds now, in its order."""
        return self.subject.parameters()

    def groups(self) -> list[dict[str, Any]]:
        return self.subject.groups()

    def ids(self) -> set[int]:
        return self.subject.ids()

    def name(self, parameter: Tensor) -> str:
        """What the user calls a parameter of this optimizer."""
        return self.subject.name(parameter)

    @property
    def received(self) -> dict[int, None]:
        """The ids of the parameters that ever got a gradient, in the order of the first time."""
        return self.machine.gradients.received

    # Where it is

    @property
    def steps(self) -> int:
        """How many steps it has made, with those that are only counted so far."""
        return self.attention.steps

    @property
    def awake(self) -> bool:
        """Whether this step is checked thoroughly."""
        return self.attention.awake

    @property
    def reads(self) -> bool:
        """Whether values are read at this step."""
        return self.sampling.reads(self.watched.steps)

    def mark_of(self, kind: str) -> sites.Mark | None:
        """Where the latest event of this kind was."""
        return self.machine.mark_of(kind)

    def scene(self, mark: sites.Mark | None, step: int | None = None) -> Scene:
        """This place, for a sighting that is about this optimizer; step: if it was not this one."""
        return Scene(
            self.watched.steps if step is None else step,
            resolve(mark),
            self.watched,
            resolve(self.built),
            resolve(self.mark_of("step")),
            resolve(self.mark_of("backward")),
            resolve(self.mark_of("zero")),
        )

    # Life

    def attach(self) -> None:
        self.stepping.attach()

    def detach(self) -> None:
        self.stepping.stop()
        if not self.awake:
            self.attention.settle()
        self.stepping.detach()
        if not self.away:
            self.machine.gradients.unhook()
        self.machine.gradients.forget()

    def leave_alone(self) -> None:
        """Another thread may be at work on its gradients: they are not looked at any more, nor are hooks in them."""
        self.away = True

    def let_go(self, why: str) -> None:
        """Other threads work on it: its gradients are not looked at any more, and its steps are counted."""
        self.opaque = why
        self.away = True
        self.machine.let_go()
        self.attention.stop()
        self.stepping.forget()

    def renew(self) -> None:
        """The optimizer holds other tensors than before."""
        self.subject.forget_names()
        self.machine.gradients.forget()
        self.sampling.rouse()

    def backward_begins(self) -> None:
        """Backward is about to run; it may touch what this optimizer holds."""
        if self.stepping.goes_backward():
            self.opaque = "it goes backward in its own step"
        self.machine.backward_begins()

    def describe(self) -> None:
        """Fill in what the record says of the parameters."""
        self.subject.describe()


def moment(observer: Observer, event: Event) -> Moment:
    """The event as the report draws it."""
    site = sites.resolve(event.mark)
    return Moment(observer.watched.index, event.kind, event.step, event.order, str(site) if site else "")
