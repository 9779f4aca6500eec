"""What becomes of the gradient that comes back to the result of an operation that the code shows."""

from __future__ import annotations

from gradcheck_lint.laws import reach as law
from gradcheck_lint.laws.reach import Effect
from gradcheck_lint.source import limits
from gradcheck_lint.source.operations import How, Operation
from gradcheck_lint.source.tree import Container
from gradcheck_lint.source.values import Items, Thing, Value, options

_DISTRIBUTIONS = "torch.distributions."
DRAWS = frozenset({"sample", "sample_n"})
"""The methods of a distribution that draw without a gradient."""


def effect(made: Operation) -> Effect:
    """What becomes of the gradient that comes back to the result of an operation."""
    if made.how is How.OPERATOR:
        return law.of_operator(made.name)
    if made.how is How.METHOD:
        # `rsample` is the one that has a gradient
        return Effect.CUT if made.name in DRAWS and _distribution(made.base) else law.of_method(made.name)
    if made.how is How.FUNCTION:
        return law.of_function(made.name)
    return Effect.THROUGH if made.how is How.WRITE else Effect.UNKNOWN


def _distribution(value: Value | None) -> bool:
    """Whether a value is surely a distribution of torch, whose `sample` runs where nothing is recorded."""
    found = options(value)
    return bool(found) and all(_made_as_one(one) is not None for one in found)


def _made_as_one(value: Value | None) -> Operation | None:
    made = value.made if isinstance(value, Thing) else None
    if made is None or made.how is not How.FUNCTION or not made.name.startswith(_DISTRIBUTIONS):
        return None
    return made if made.name.rpartition(".")[2][:1].isupper() else None


def distribution_of(value: Value | None) -> str | None:
    """The class of a distribution, of the one within where others are around it; None where it is not known."""
    for _ in range(limits.ALTERNATIVES):
        made = _made_as_one(value)
        if made is None:
            return None
        name = made.name.rpartition(".")[2]
        if name not in ("Independent", "TransformedDistribution") or not made.args:
            return name
        value = made.args[0]
    return None


def item(base: Value | None, index: str) -> tuple[Value, list[Operation]] | None:
    """What stands at an index of the tuple that a followed call gave, and the calls within which it was made.

    None where that is not seen.
    """
    number = index.strip("[]")
    calls: list[Operation] = []
    while not isinstance(base, Items):
        made = base.made if isinstance(base, Thing) else None
        if made is None or made.how not in (How.CALL, How.CODE) or len(calls) >= limits.PARENTS:
            return None
        calls.append(made)
        base = made.inner
    if not calls or not number.removeprefix("-").isdigit() or not base.complete or base.escaped:
        return None
    at = int(number)
    if base.kind is not Container.TUPLE or not -len(base.items) <= at < len(base.items):
        return None
    return base.items[at], calls
