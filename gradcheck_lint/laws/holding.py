"""The law of holding: what trains a tensor holds that tensor, the same object, for as long as it is trained.

An optimizer moves the tensors that it was given, not what goes by their names. So whatever is cleared, clipped or
stepped for an optimizer must be what it holds (`shares`, `touched`). What a model puts in the place of a tensor is
trained by nobody until an optimizer is told (`exchanged`); what was one parameter in two places drifts apart once it
is two (`tied`); what a model does not register is in no `parameters()` that an optimizer is given (`missing`); and what
an optimizer remembers of a tensor has to be of its kind (`misfit`).

The linter knows modules and tensors by the symbolic things that they are, and does not always know all of them; a run
knows them by `id`, address and flag. Averages and checkpoints, which hold copies, ask the same of `shares`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from enum import Enum
from typing import NamedTuple

from gradcheck_lint.laws.answer import MAYBE, NO, YES, Answer, first

REFERENCE = re.compile(r"(?i)(?:^|_)(?:ref|reference|target|teacher|anchor|frozen|ema|shadow|averaged?|slow)(?:_|$)")
"""Names of networks that are to stay behind another one. (An old policy may be the policy, before its step.)"""
SHARED = re.compile(
    r"(?i)shar(?:e|ing)|\btie[sd]?\b|\btying\b|recurren(?!t_layer)|universal|unroll|same (?:layer|weight|block)"
)
"""Code that says that one layer is meant to stand in several places."""

# Who holds the same tensors


def shares(*, some: bool, covered: bool, known: bool) -> Answer:
    """Whether one has what another holds.

    `some`: a tensor was seen that both have. `covered`: all that the other holds was seen to be the one's too. `known`:
    enough was seen of both to say that they have nothing in common, if nothing was found. YES: all of it; MAYBE: a part
    of it, or perhaps; NO: none.
    """
    if some:
        return YES if covered else MAYBE
    return NO if known else MAYBE


def shares_ids(one: AbstractSet[int], other: AbstractSet[int]) -> Answer:
    """`shares` of those whose tensors are all known, by their ids. Who holds nothing shares nothing."""
    return shares(some=not one.isdisjoint(other), covered=other <= one, known=True)


def touched(parts: Iterable[Answer], *, known: bool) -> Answer:
    """Whether what is done to one thing, as clearing or clipping, is done to what a holder has.

    `parts` says it for each part that the holder is known to have, and the first that is touched decides: YES if all of
    that part is, MAYBE if only a piece of it is, or perhaps. `known`: these are all parts.
    """
    answer = first(parts)
    return MAYBE if answer is NO and not known else answer


# What was exchanged


class Exchange(Enum):
    """What an exchange of what a model holds comes to, for an optimizer that held what was there before."""

    FOREIGN = "foreign"  # it never held that
    SETTLED = "settled"  # nothing is there that could be trained and that no optimizer has
    WAITING = "waiting"  # it may still be that what is there is not used
    LOST = "lost"  # it trains what is left of the model, and nobody trains what has come in


def exchanged(*, held: bool, lost: bool, fed: bool) -> Exchange:
    """`held`: the optimizer has what was there before; `lost`: there are tensors to train now that no optimizer has.

    `fed`: a backward has reached one of these.
    """
    if not held:
        return Exchange.FOREIGN
    if not lost:
        return Exchange.SETTLED
    return Exchange.LOST if fed else Exchange.WAITING


class Place(NamedTuple):
    """What lies now in one of the places that held one and the same parameter."""

    tensor: int  # which object
    memory: int  # where its values lie
    held: bool  # whether the optimizer has it
    fed: bool  # whether a backward has reached it


class Tied(Enum):
    """What has become of one parameter in several places."""

    WHOLE = "whole"  # it is one still, or several over the same memory
    WAITING = "waiting"  # several, which the optimizer does not train, or not yet
    IDLE = "idle"  # several, of which one is in use
    BROKEN = "broken"  # several, each with a gradient of its own


def tied(places: Sequence[Place]) -> Tied:
    found = {place.tensor: place for place in places}.values()
    if len(found) < 2 or len({place.memory for place in found}) == 1:
        return Tied.WHOLE
    if not any(place.held for place in found) or not any(place.fed for place in found):
        return Tied.WAITING
    return Tied.BROKEN if sum(place.fed for place in found) > 1 else Tied.IDLE


# What nobody holds


class Where(Enum):
    """Where in a model a tensor lies that losses reach."""

    REGISTERED = "registered"  # among its parameters, or in no model at all
    ATTRIBUTE = "attribute"  # a plain attribute, or a container in one
    BUFFER = "buffer"
    LAYERS = "layers"  # in modules in a plain container, which `parameters()` does not look into
    OBJECT = "object"  # in an object that computes as a module does, and is none


class Missing(Enum):
    """Why a tensor that losses reach is held by no optimizer."""

    LAYERS = "layers"  # nobody has registered the layers that it is in
    OBJECT = "object"  # it is in something that should be a module
    BUFFER = "buffer"  # it should be a parameter
    ATTRIBUTE = "attribute"  # nobody has registered it
    TENSOR = "tensor"  # it is no parameter, and it may be that nobody wants to train it
    LIST = "list"  # the program has put a list together, of it and others, and given it to no optimizer
    REPLACED = "replaced"  # it is new, and an optimizer has what went by its name
    LEFT_OUT = "left out"


_UNREGISTERED = {
    Where.LAYERS: Missing.LAYERS,
    Where.OBJECT: Missing.OBJECT,
    Where.BUFFER: Missing.BUFFER,
    Where.ATTRIBUTE: Missing.ATTRIBUTE,
}


def missing(where: Where, *, parameter: bool, listed: bool, fresh: bool, replaces: bool) -> Missing:
    """Why nobody holds a tensor: where it lies, before what it is, before how it came.

    `listed`: it is in a list of parameters none of which anybody holds. `fresh`: its values are those that it was
    built with. `replaces`: an optimizer has a tensor of the same name, which gets no gradient any more.
    """
    if where is not Where.REGISTERED:
        return _UNREGISTERED[where]
    if not parameter:
        return Missing.TENSOR
    if listed:
        return Missing.LIST
    return Missing.REPLACED if replaces and fresh else Missing.LEFT_OUT


# What a tensor is like


class Kind(NamedTuple):
    """What two tensors must have in common where one is used along with the other, element by element."""

    shape: tuple[int, ...]
    device: object
    dtype: object


class Misfit(Enum):
    """The first thing in which they differ, the gravest first."""

    SHAPE = "shape"
    DEVICE = "device"
    DTYPE = "dtype"


def misfit(parameter: Kind, state: Kind) -> Misfit | None:
    """What keeps a step from using what an optimizer remembers of a parameter; None if it fits."""
    if parameter.shape != state.shape:
        return Misfit.SHAPE
    if parameter.device != state.device:
        return Misfit.DEVICE
    return Misfit.DTYPE if parameter.dtype != state.dtype else None
