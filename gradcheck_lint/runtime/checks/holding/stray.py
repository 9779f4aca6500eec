"""One leaf that backward fills and that no watched optimizer holds: what is known of it, and whether it moves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.runtime.names import names_of
from gradcheck_lint.runtime.reading import capturing, piece, plain
from gradcheck_lint.runtime.references import Ref

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType

    from torch import Tensor

    from gradcheck_lint.runtime.checks.holding.attributes import Hidden
    from gradcheck_lint.runtime.session import Session
    from gradcheck_lint.runtime.sites import Mark

_PILED = 10  # steps after which a gradient that was never cleared is one that nobody looks at
FRESH = 2  # how often the values of a layer are written while it is built, at most
NAMELESS = "a tensor without a name"


class Stray:
    """A leaf that got a gradient and that no watched optimizer holds."""

    def __init__(self, leaf: Tensor, number: int, mark: Mark | None, observers: frozenset[int]) -> None:
        from torch.nn import Parameter

        self.ref: Callable[[], Tensor | None] = Ref(leaf)
        self.first = number  # the backward at which it was met
        self.latest = number
        self.times = 1  # how many of the backwards that were walked reached it
        self.mark = mark  # where it was registered
        self.observers = observers  # those whose parameters these backwards reached too
        self.parameter = isinstance(leaf, Parameter)
        self.shape = tuple(leaf.shape)
        self.version = leaf._version
        self.place = leaf.data_ptr()
        self.plain = False  # whether the optimizers that it is met with hold no parameters, only plain tensors
        self.moved = False  # somebody writes to it
        self.factor = False  # it is a number that scales or shifts others
        self.left: tuple[int, int, int] | None = None  # its gradient, id and version, and the number of the step
        self.piles = 0  # how often that was still there when the next backward began
        self.cleared = False  # somebody who is no optimizer did so
        self.step = 0  # of the optimizer, at which it was known that nobody holds it
        self.name = ""
        self.fresh = False  # its values are those that it was built with
        self.meant = False  # it lies in front of all that is trained, and may stay random on purpose
        self.thawed = False  # it was frozen when the optimizer was new
        self.replaces = False  # what an optimizer holds goes by the same name, and gets no gradient
        self.kind = (leaf.dtype, leaf.device)
        self.sample: Tensor | None = None  # some of its values, from when it was known that nobody holds it
        self.restored = -1  # how many steps there had been when all of its model was loaded; -1 if it never was
        self.wanted = False  # its gradient may be what the program asks for
        self.list = ""  # the list that holds it
        self.hidden: Hidden | None = None

    def look(self) -> Tensor | None:
        leaf = self.ref()
        if leaf is not None and (leaf._version != self.version or leaf.data_ptr() != self.place):
            self.moved = True
        return leaf

    def keep(self, *, anew: bool = True) -> None:
        """Remember some of its values: what is written through `.data` changes neither the version nor the memory."""
        leaf = self.ref()
        if anew or self.sample is None:
            self.sample = _sample(leaf) if leaf is not None else None

    def compare(self) -> None:
        """Whether somebody has written to it after all; reads values."""
        leaf = self.ref()
        if self.moved or self.sample is None or leaf is None:
            return
        now = _sample(leaf)
        if now is not None and now.dtype == self.sample.dtype and now.device == self.sample.device:
            self.moved = not bool((now == self.sample).all())

    def trained(self, steps: int) -> None:
        """A step follows, of so many: a state that was loaded before it is one that the training goes on with."""
        self.moved = self.moved or -1 < self.restored < steps

    def converted(self) -> None:
        """Its module was moved or converted, which gives it other memory and leaves its values as they were."""
        leaf = self.ref()
        if leaf is not None:
            kind = (leaf.dtype, leaf.device)
            if kind == self.kind and leaf.data_ptr() != self.place:
                self.moved = True  # something else was put there
            self.version, self.place, self.kind = leaf._version, leaf.data_ptr(), kind
            self.keep()

    def restore(self, steps: int) -> None:
        """A state was loaded into it and into all beside it: what that means depends on whether a step follows."""
        leaf = self.ref()
        if leaf is not None:
            self.restored = steps
            self.version, self.place, self.kind = leaf._version, leaf.data_ptr(), (leaf.dtype, leaf.device)
            self.keep()

    def begins(self, steps: int) -> None:
        """Backward begins, for the first time since a step: is the gradient of that step still there?"""
        leaf, left = self.ref(), self.left
        if left is not None and leaf is not None and left[2] == steps:
            if _gradient(leaf, steps) == left:
                self.piles += 1
            else:
                self.cleared = True
        self.left = None

    def used(self, steps: int) -> None:
        """A step begins, which does not use its gradient."""
        leaf = self.ref()
        self.left = _gradient(leaf, steps) if leaf is not None else None

    @property
    def piled_up(self) -> bool:
        """Whether its gradient was there for everybody, and was neither used nor cleared.

        That of an input may lie there too, as of the point at which an equation has a boundary.
        """
        return self.factor and self.piles >= _PILED and not self.cleared


def alike(one: Stray, other: Stray) -> bool:
    """Whether the same line has made both."""
    if one.mark is not None and other.mark is not None:
        return (one.mark.code, one.mark.line) == (other.mark.code, other.mark.line) and one.shape == other.shape
    return one.mark is other.mark and one.shape == other.shape


def _gradient(leaf: Tensor, steps: int) -> tuple[int, int, int] | None:
    return (id(leaf.grad), leaf.grad._version, steps) if leaf.grad is not None else None


def _sample(leaf: Tensor) -> Tensor | None:
    values = None if capturing() else plain(leaf)
    return piece(values).clone() if values is not None else None


def names_of_all(session: Session, strays: Sequence[Stray], frames: list[FrameType]) -> list[str]:
    """What the user calls each of them."""
    return [name or NAMELESS for name in names_of(session.models, [stray.ref() for stray in strays], frames)]


def steps_of_all(session: Session) -> int:
    """How many steps all optimizers have made."""
    return sum(observer.steps for observer in session.observers.values())
