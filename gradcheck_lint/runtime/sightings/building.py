"""What an optimizer is built of, and how: as torch lets it through, or refuses it and the program ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.runtime.sighting import Sighting, kind

if TYPE_CHECKING:
    from gradcheck_lint.runtime.record import Site


@kind
class SetGiven(Sighting):
    number: int


@kind
class IteratorSpent(Sighting):
    """What was handed over had been read before."""

    group: int | None = None
    iterator: str = ""  # the variable, where parameters got gradients that it should have given
    begun: bool = False  # something was left in it


@kind
class NonLeafGiven(Sighting):
    made: Site | None


@kind
class GivenTwice(Sighting):
    pass


@kind
class NothingHeld(Sighting):
    spent: bool  # an iterator that was read before has left it empty


@kind
class NeverTrained(Sighting):
    """Tensors that do not require grad, and never came to."""

    steps: int
    whole: bool  # they are all that it holds


@kind
class OddOption(Sighting):
    option: str
    value: object
    likely: str  # the option that may be meant, if this is none


@kind
class ZeroRate(Sighting):
    """The rate of every group was 0 at each step."""

    steps: int
    given: object  # what it was built with


@kind
class AttributeAssigned(Sighting):
    """An option was set where the optimizer does not look for it."""

    option: str
    value: object
    real: object  # what the groups say
    where: str  # "defaults", or "" for the optimizer itself
    made: Site | None


# Refused by torch


@kind
class RefusedEmpty(Sighting):
    hidden: tuple[str, ...] = ()  # attributes with layers that are not registered


@kind
class RefusedSpent(Sighting):
    pass


@kind
class RefusedTwice(Sighting):
    pass


@kind
class RefusedNonLeaf(Sighting):
    made: Site | None = None
    operation: str = ""


@kind
class RefusedSet(Sighting):
    pass


@kind
class RefusedLoad(Sighting):
    """A state that does not fit."""

    words: str
    groups: tuple[int, int]  # how many it has and is given; 0 where that is not known
