"""Which leaves a backward reaches, what cuts the others off, and whether what flows back is the derivative."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from gradcheck_lint.laws.reach import Cut
from gradcheck_lint.runtime.sighting import Sighting, kind

if TYPE_CHECKING:
    from gradcheck_lint.runtime.record import Site


@kind
class BackwardRefused(Sighting):
    """torch has refused to go backward from a loss that has no graph."""

    because: Cut
    trainable: bool
    inference: bool
    root: str  # the variable
    made: Site | None


@kind
class LossLeadsNowhere(Sighting):
    """A loss requires grad and leads back to no parameter."""

    made: Site | None
    summed: bool
    sure: bool


class Cutting(Enum):
    """Who has cut parameters off from a loss that they took part in."""

    CHECKPOINT = "checkpoint"  # a reentrant one of inputs that do not require grad
    FUNCTION = "function"  # the backward of an autograd Function gives None for them
    VALUE = "value"  # `forward` takes their values alone
    OFF = "off"  # their modules are called while gradients are switched off
    DETACHED = "detached"  # what comes out of their modules is cut off


@kind
class NeverAGradient(Sighting):
    """Parameters that no loss depends on."""

    prefix: str
    checked: int
    branch: bool  # another of these modules was taken each time
    cutting: Cutting | None = None  # they took part in the forward pass, and this has cut them off
    cut: Site | None = None  # where
    by: str = ""  # the Function, or what the code calls there


@kind
class NoDerivative(Sighting):
    """Every way to them leads through an operation whose derivative is zero."""

    operation: str
    draws: bool
    whole: bool  # there are no other parameters


@kind
class FunctionMisfit(Sighting):
    """What an autograd Function returns from backward does not fit its inputs."""

    owner: str
    called: Site | None


@kind
class WrongNumber(FunctionMisfit):
    got: int
    expected: int


@kind
class WrongShape(FunctionMisfit):
    index: int
    got: str
    expected: str


@kind
class WrongType(FunctionMisfit):
    got: str


@kind
class KeptOnContext(Sighting):
    """An autograd Function keeps a tensor as an attribute of ctx."""

    owner: str
    output: bool  # what it returns; else what it was given


@kind
class IncomingIgnored(Sighting):
    """The backward of an autograd Function looks at none of `names`, and they were not 1."""

    owner: str
    sure: bool  # what it has kept is what it derives by; else it may be a gradient of another origin


@kind
class TakenOnce(Sighting):
    """A number that was computed from the parameter in `names` is what it was, and the parameter is not."""

    value: str  # what the code calls the number


@kind
class NotTheDerivative(Sighting):
    """The backward of an autograd Function is not the derivative of its forward."""

    owner: str
    said: float
    true: float
    given: bool  # it is not None
    called: Site | None
