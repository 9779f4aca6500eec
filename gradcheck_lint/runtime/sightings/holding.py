"""Which leaf tensors an optimizer, a model, a list or a checkpoint holds, and whether they are the same objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.runtime.sighting import Sighting, kind

if TYPE_CHECKING:
    from gradcheck_lint.runtime.record import Site

# Held by no optimizer


@kind
class Unheld(Sighting):
    """Parameters that backward fills and nobody moves."""

    fresh: bool  # their values are those that they were built with
    meant: bool  # they may be meant to stay random: a reservoir, random features, what a probe is put on
    thawed: bool  # they were frozen when the optimizer was new
    plain: bool  # the optimizers that they are met with hold no parameters, only plain tensors


@kind
class UnheldTensor(Sighting):
    """Tensors that backward fills, no parameters."""

    plain: bool
    wanted: bool  # their gradient may be what the program asks for
    cleared: bool  # somebody who is no optimizer clears it
    piled_up: bool  # it was there for everybody, and was neither used nor cleared


@kind
class GroupForgotten(Sighting):
    """They are all in one list that was never handed over."""

    list: str
    made: Site | None


@kind
class BufferTrained(Sighting):
    """They are buffers."""

    attribute: str
    owner: str  # the class
    wanted: bool
    made: Site | None


@kind
class TensorUnregistered(Sighting):
    """They are plain tensors in an attribute of a module."""

    attribute: str
    wanted: bool
    made: Site | None


@kind
class PartNoModule(Sighting):
    """They lie in a part of a module that is none itself."""

    attribute: str
    owner: str
    holder: str  # the class of the part
    fresh: bool
    made: Site | None


@kind
class LayersUnregistered(Sighting):
    """They lie in containers that register nothing: one mistake of a class."""

    attributes: tuple[str, ...]
    owner: str
    container: str  # "list", "tuple" or "dict"
    made: Site | None
    beside: tuple[Site | None, ...]  # where the other attributes are made


@kind
class LayerRebuilt(Sighting):
    """They are new for each loss."""

    made: Site | None


# In the place of what the optimizer holds


@kind
class LayerReplaced(Sighting):
    made: Site | None
    number: int  # of tensors
    added: bool  # they have taken nothing's place


@kind
class ParameterReplaced(Sighting):
    made: Site | None
    number: int
    added: bool


@kind
class ParameterMoved(Sighting):
    """Moving or converting a module gave it new parameters."""

    made: Site | None


@kind
class ModelReplaced(Sighting):
    made: Site | None
    number: int
    held: int  # how many tensors the optimizer holds, none of which got a gradient


@kind
class VariableReplaced(Sighting):
    made: Site | None
    copy: bool = False  # what it stands for is computed from what the optimizer holds


@kind
class EntryReplaced(Sighting):
    """The optimizer's groups have other tensors than when it was built, which the model does not use."""

    number: int
    of: int


@kind
class TieBroken(Sighting):
    """What was one parameter is several."""

    made: Site | None
    held: int  # how many of them the optimizer holds


@kind
class MemoryShared(Sighting):
    """`.data` was given the memory of another."""

    owners: tuple[str, ...]


@kind
class DataMisfit(Sighting):
    """A parameter is of another kind than what the optimizer keeps of it."""

    now: str
    state: str


@kind
class StateLeftBehind(Sighting):
    """The same, after the model was moved."""

    now: str
    state: str
    made: Site | None


@kind
class StateElsewhere(Sighting):
    """A parameter and what belongs to it are on different devices."""

    what: str
    here: str
    there: str


@kind
class OnMeta(Sighting):
    """Some parameters have no values."""

    total: int


# Checkpoints


@kind
class StateMisfit(Sighting):
    """The optimizer was given a state of other sizes."""

    shapes: tuple[tuple[int, ...], tuple[int, ...]]  # its own, and that of the state


@kind
class NothingLoaded(Sighting):
    """None of the keys of a state match."""

    wanted: str
    given: str


@kind
class OwnStateLoaded(Sighting):
    """A model was given the state that is its own memory."""

    steps: int  # that have changed it since


@kind
class StatePermuted(Sighting):
    """The state is matched with other parameters than it was saved for."""

    given: tuple[str, ...]  # for each of `names` whose state it gets
    total: int
    sure: bool


@kind
class RateLost(Sighting):
    """A new scheduler has overwritten the rate that was restored."""

    now: float
    restored: float
    epoch: int
    loaded: Site | None
    counted: bool = True  # the scheduler was given its count; else the count of the checkpoint was given to nobody
    sure: bool = True


@kind
class RestoredRedrawn(Sighting):
    """Of the weights that were loaded nothing is left at the first step."""

    loaded: Site | None
    sure: bool  # the optimizer was given what belongs to them


@kind
class RestoredInVain(Sighting):
    """An optimizer was built anew after its state was restored."""

    other: str
    loaded: Site | None

    def others(self) -> tuple[str, ...]:
        return (self.other,)


# One for another


@kind
class LayerRepeated(Sighting):
    """A container has one layer in all of its places; `names`: what the container is called."""

    layer: str  # the class
    places: int
    sure: bool  # the layer is made where it is repeated


@kind
class OwnReference(Sighting):
    """A network that is trained is what it is held against; `names`: its two names, that of the reference last."""

    sure: bool


@kind
class GroupEmpty(Sighting):
    """A group of an optimizer is empty: none of the names begins with a word, and that in `names` only has it."""

    word: str
    group: int
    at: Site | None  # where the word is asked for


@kind
class SavedUnused(Sighting):
    """The state of an optimizer that never stepped is saved, while this one trains what it holds."""

    other: str
    made: Site | None

    def others(self) -> tuple[str, ...]:
        return (self.other,)
