"""What a model consists of, by the dotted names that torch gives its parameters, and a choice among them."""

from __future__ import annotations

from typing import NamedTuple

from gradcheck_lint.laws.answer import MAYBE, NO, YES, Answer
from gradcheck_lint.source.values import Thing

Key = tuple[int, str]
"""Which parameter it is: one that two names lead to has one key."""


class Leaf(NamedTuple):
    """One parameter of a model, or (if `open`) whatever there may be below a name."""

    names: tuple[str, ...]  # what it may be called; several where a part of that is not known, such as an index
    ndim: int | None  # None if the code does not show it
    key: Key
    inside: tuple[Thing, ...]  # the modules that it is in, from the model down to the layer
    sure: bool  # it is there on every path
    open: bool = False
    grad: bool | None = True  # whether it requires grad when it is made

    @property
    def name(self) -> str:
        return self.names[0]


class ModelTree(NamedTuple):
    """The parameters of a model in the order in which torch gives them, each once."""

    model: Thing
    leaves: tuple[Leaf, ...]

    @property
    def whole(self) -> bool:
        """Whether it shows all that the model has."""
        return not any(leaf.open for leaf in self.leaves)


class Member(NamedTuple):
    """Whether a parameter is among those that were picked: if it requires grad, and if it does not."""

    leaf: Leaf
    trained: Answer
    frozen: Answer


class Pick(NamedTuple):
    """The parameters of a model that meet some tests."""

    tree: ModelTree
    members: tuple[Member, ...]
    sought: tuple[tuple[str, bool], ...] = ()  # what the tests look for in names, and whether some name has it
    shaped: bool = False  # they ask for the number of dimensions

    @property
    def empty(self) -> bool:
        """Whether nothing can be among them, whatever is frozen."""
        return all(member.trained is NO and member.frozen is NO for member in self.members)

    def has(self, key: Key) -> Answer:
        """Whether a parameter that requires grad is among them."""
        return next((member.trained for member in self.members if member.leaf.key == key), NO)


def both(one: Answer, other: Answer) -> Answer:
    """Whether two things hold, of each of which it may not be known."""
    if NO in (one, other):
        return NO
    return YES if one is YES and other is YES else MAYBE
