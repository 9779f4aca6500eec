"""The law of reach: a step moves what a backward has reached, and a backward reaches what its loss was computed from.

A loss trains an optimizer only if it leads to a tensor that the optimizer holds (`trains`). A tensor that is held and
wanted gets a gradient, and one that is not all zeros for want of a derivative (`reached`). Where a loss has no graph at
all, something has cut it off (`cut_by`).

The linter knows what a value was computed from as far as the code shows it, a run walks the graph of autograd. A
witness that sees each `detach()`, `.data`, `.item()` and the like on the way adds them to `Cut`.
"""

from __future__ import annotations

from enum import Enum

from gradcheck_lint.laws.answer import MAYBE, NO, YES, Answer


def trains(*, met: bool, whole: bool, known: bool, strange: bool) -> Answer:
    """Whether a backward makes gradients for an optimizer.

    `met`: the loss leads to a tensor that the optimizer has, for all that is known. `whole`: all tensors that it leads
    to are known, and `known`: so are all that the optimizer has. `strange`: what is known of the way leads to what has
    nothing to do with the optimizer. What a loss was computed with is hardly ever known in full, so this is NO only
    where all is.
    """
    if met:
        return YES
    if whole:
        return NO if known else MAYBE
    return MAYBE if strange else YES


class Reached(Enum):
    """What the backwards so far have done for a tensor that an optimizer holds."""

    UNWANTED = "unwanted"  # it is not to be trained, or no part of the model
    NEVER = "never"  # none has made it a gradient
    FLAT = "flat"  # its gradient is nothing but zeros, because no way to it has a derivative
    FED = "fed"


def reached(*, wanted: bool, fed: bool, flat: bool = False, zero: bool = False) -> Reached:
    """`fed`: it has a gradient, or had one. `flat`: each way from a loss to it leads through what has no derivative.

    `zero`: there is nothing but zeros in its gradient.
    """
    if not wanted:
        return Reached.UNWANTED
    if not fed:
        return Reached.NEVER
    return Reached.FLAT if flat and zero else Reached.FED


class Cut(Enum):
    """Why a loss has no graph."""

    OFF = "off"  # gradients are switched off where backward is called
    INFERENCE = "inference"  # the loss was made in inference mode
    DECORATED = "decorated"  # gradients are switched off around the `forward` of a module
    DETACHED = "detached"  # it was cut off from something that still has a graph
    NOTHING = "nothing"  # nothing at hand has a graph


def cut_by(*, off: bool, inference: bool, decorated: bool, nearby: bool) -> Cut:
    """What has cut a loss off, the nearest cause first; `nearby`: there is something with a graph beside it."""
    if off:
        return Cut.OFF
    if inference:
        return Cut.INFERENCE
    if decorated:
        return Cut.DECORATED
    return Cut.DETACHED if nearby else Cut.NOTHING
