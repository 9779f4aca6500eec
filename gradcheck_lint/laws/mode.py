"""The law of mode: what is switched for an evaluation, or to freeze a part, is as it has to be while training steps.

Nothing can be learned from a pass that torch does not record (`records`, `idle`). What `requires_grad` says holds for a
step as long as no gradient is left from before (`flag`), and what it has said at each moment tells what was never
trained (`never_trained`). Layers that compute something else in evaluation mode are back in training mode when
training goes on (`layer`, `Lapse`), and norm layers whose weights are frozen have statistics that move all the same
(`drifts`). Layers run in half precision behind a loss for which somebody has asked for that (`lost`).

The linter feeds it the blocks around an event and what is set on the paths to it (`lasts`), the watcher flags.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from enum import Enum

from gradcheck_lint.laws.answer import MAYBE, NO, YES, Answer

# Grad mode

OFF = frozenset({"no_grad", "inference_mode"})
"""Names of torch's contexts in which nothing is recorded for backward."""
EITHER = frozenset({"enable_grad", "set_grad_enabled"})
"""Names of torch's contexts in which something may be recorded, whatever holds around them."""

IDLE = 2  # steps in a row


def records(contexts: AbstractSet[str]) -> Answer:
    """Whether torch records operations in contexts of these names, of which nobody knows the order."""
    if contexts & EITHER:
        return MAYBE
    return NO if contexts & OFF else YES


def idle(before: int, *, records: bool, fed: bool) -> int:
    """How many steps in a row, with this one, had no gradients while nothing was recorded; IDLE are no accident.

    `before`: those before it; `fed`: some tensor of the optimizer has a gradient.
    """
    return 0 if records or fed else before + 1


# Freezing


class Flag(Enum):
    """What `requires_grad` of a tensor, or of all in a module, means for a step."""

    OPEN = "open"  # it is trained, or something of it may be
    FROZEN = "frozen"
    LEFTOVER = "leftover"  # frozen with a gradient that is left from before, by which the step moves it on
    EARLY = "early"  # frozen where the object was made, since when code that was not seen may have thawed it


def flag(*, requires_grad: bool, fed: bool) -> Flag:
    if requires_grad:
        return Flag.OPEN
    return Flag.LEFTOVER if fed else Flag.FROZEN


def never_trained(flags: Iterable[Flag], *, thawed: bool = False) -> bool:
    """Whether nothing ever trains what had these flags at the moments, or on the paths, that there were.

    `thawed`: there is code that may have thawed what was frozen early.
    """
    seen = frozenset(flags)
    return bool(seen) and seen <= ({Flag.FROZEN} if thawed else {Flag.FROZEN, Flag.EARLY})


# Training and evaluation


class Layer(Enum):
    """The mode of a layer that computes something else in training."""

    TRAINING = "training"
    UNDONE = "undone"  # in evaluation mode, and it was in training mode at an earlier step
    NEVER = "never"  # always in evaluation mode, as far as was seen: somebody wants it so


def layer(*, training: bool, before: bool) -> Layer:
    """`training`: its mode now; `before`: it was in training mode at an earlier step."""
    if training:
        return Layer.TRAINING
    return Layer.UNDONE if before else Layer.NEVER


class Lapse:
    """Steps in evaluation mode: one may be meant so, two in a row are not."""

    def __init__(self) -> None:
        self.since = 0  # the first of these steps, counted from 1; 0: there was none

    def begins(self, step: int, *, undone: bool) -> bool:
        """Take a step, with or without layers whose training was undone; whether it is the first of a lapse."""
        if not undone:
            self.since = 0
            return False
        new = not self.since
        self.since = self.since or step
        return new

    def lasts(self, step: int) -> bool:
        """Whether a later step than the first is in it as well."""
        return 0 < self.since < step


def drifts(*, training: bool, statistics: bool, trained: Iterable[bool]) -> bool:
    """Whether a norm layer was frozen by its weights alone: its statistics follow whatever it is given.

    `statistics`: it keeps some; `trained`: what `requires_grad` says of each of its weights.
    """
    flags = list(trained)
    return training and statistics and bool(flags) and not any(flags)


class Since(Enum):
    """How a model is, on one path, by one call that has put it into evaluation mode."""

    BEFORE = "before"  # the call has not been made
    LEFT = "left"  # nothing has switched it back
    BACK = "back"  # it was switched back, or may have been


def lasts(met: Iterable[Since]) -> Answer:
    """Whether training goes on in evaluation mode after that call, by how the model is where it is trained.

    The paths that never made the call do not count: they are other rounds. It is MAYBE where some path switches back.
    """
    seen = frozenset(met)
    if Since.LEFT not in seen:
        return NO
    return MAYBE if Since.BACK in seen else YES


# Autocast


class Lost(Enum):
    """How the layers behind a loss came to run in single precision, although half was meant."""

    OUTSIDE = "outside"  # they ran before or after a block of autocast in which the loss was made
    DEVICE = "device"  # the block is for another device
    FORWARD = "forward"  # they were called past the `forward` that autocast is wrapped around
    UNUSED = "unused"  # the loss is scaled, and there was a block that had nothing to do with it


def lost(
    *, around: bool, device: bool, beside: bool, wrapped: bool, past: bool, scaled: bool, entered: bool
) -> Lost | None:
    """How it was lost; None where nothing says so.

    A block that was meant to bring it was `around` the layers, and for their `device`, or around something else behind
    the loss (`beside`), or has been `entered` at all since the last step. A `forward` is `wrapped` in autocast, and all
    the layers lie in its module and were called `past` it. The loss is `scaled`: without any block that does no harm,
    and may be left from a program that had both.
    """
    if around:
        return None if device else Lost.DEVICE  # nobody knows why it has no effect
    if beside:
        return Lost.OUTSIDE
    if wrapped:
        return Lost.FORWARD if past else None
    return Lost.UNUSED if scaled and entered else None
