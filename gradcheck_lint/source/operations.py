"""How a value came to be: the operation whose result it is, kept for rules that walk back from a loss.

A record costs one small object, and nothing is computed before a rule asks; what an operation does to the gradient is
said by `laws.reach`, and `facts.reach` walks back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import TYPE_CHECKING

from gradcheck_lint.laws.answer import Answer
from gradcheck_lint.laws.mode import records
from gradcheck_lint.source import limits
from gradcheck_lint.source.values import Constant, Thing, Value

if TYPE_CHECKING:
    from gradcheck_lint.source.place import Place


class How(Enum):
    """The kinds of operations; what `name`, `base` and `args` of an operation are."""

    FUNCTION = "function"  # of a package, by its full name: `torch.nn.functional.softmax`; `base` is None
    METHOD = "method"  # that is no code of the project, by its name; `base` is what it is called on
    CALL = "call"  # of an object, `base`: a module, or something that is not known; `name` is its label
    CODE = "code"  # a function of the project that was not followed, `base`; `name` is its own
    OPERATOR = "operator"  # `+`, `<`, `+=`
    ITEM = "item"  # of `base`, at the index `name`, which is "" where it is not known, or of a loop over it
    JOIN = "join"  # one of `args`: paths have met, or it was not seen which one
    WRITE = "write"  # in place: what it was `before`, changed by `args`


class Operation:
    """What gave a value. `context` are the contexts around it; `inner` is what the followed `forward` of `base` gave.

    An attribute or an item of a thing has none where `Thing.parent` tells the same.
    """

    __slots__ = ("args", "base", "before", "context", "how", "inner", "keywords", "name", "place")

    def __init__(
        self,
        how: How,
        name: str,
        args: Sequence[Value],
        place: Place | None,
        context: frozenset[str] = frozenset(),
        *,
        base: Value | None = None,
        keywords: Mapping[str, Value] | None = None,
        inner: Value | None = None,
        before: Operation | None = None,
    ) -> None:
        self.how, self.name, self.args, self.place, self.context = how, name, args, place, context
        self.base, self.keywords, self.inner, self.before = base, keywords, inner, before

    @property
    def recorded(self) -> Answer:
        """Whether torch recorded it for a backward."""
        return records(self.context)

    def __repr__(self) -> str:
        return f"Operation({self.how.value} {self.name})"


NEW = Operation(How.OPERATOR, "", (), None)
"""What gives a value that nothing of its operands comes to, a size or a truth value: one for all of them."""


def join(values: Sequence[Value]) -> Operation | None:
    """One of some values; None where they are too many to keep."""
    if all(isinstance(value, Constant) for value in values):
        return NEW
    return Operation(How.JOIN, "", tuple(values), None) if len(values) <= limits.ALTERNATIVES else None


def write(thing: Thing, name: str, values: Sequence[Value], place: Place, context: frozenset[str]) -> None:
    """A tensor is changed in place: it is from now on (and, for who asks later, ever was) what the values are as well.

    What is too much to keep is one thing of which nothing is known.
    """
    made = thing.made
    before, args = (made.before, made.args) if made is not None and made.how is How.WRITE else (made, ())
    if len(args) < limits.ALTERNATIVES:
        args = (*args, *values)
    elif args[-1] is not _MORE:
        args = (*args, _MORE)
    thing.made = Operation(How.WRITE, name, args, place, context, before=before)


class _More(Value):
    """What there was no room for."""

    __slots__ = ()


_MORE = _More()
