"""Who has cut a part of a model off from the loss, by the calls of one forward pass and the code that made them."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING, NamedTuple

from gradcheck_lint.runtime import sites
from gradcheck_lint.runtime.cutters import always, cutters, straight, switched_off, value_only
from gradcheck_lint.runtime.sightings.reach import Cutting

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import CodeType

    from torch.nn import Module

    from gradcheck_lint.runtime.cutters import Cutter
    from gradcheck_lint.runtime.passes import Called
    from gradcheck_lint.runtime.sites import Mark

Frame = tuple["CodeType", int]

_LOOKED_AT = 8  # calls of each kind


class Way(NamedTuple):
    """Who has cut something off."""

    cutting: Cutting
    mark: Mark
    by: str = ""

    def key(self) -> tuple[object, ...]:
        return (self.cutting, self.mark.code, self.mark.line, self.by)

    def alike(self, other: Way) -> bool:
        return self.key() == other.key()


def valued(owner: Module, key: str) -> Way | None:
    """`forward` takes nothing of a parameter but its value."""
    code = sites.code_of(type(owner).forward)
    if code is None or sites.foreign(code.co_filename):
        return None
    cutter = value_only(code, key)
    return Way(Cutting.VALUE, cutter.mark, cutter.name) if cutter is not None else None


def between(parts: Sequence[Called], fed: Sequence[Called]) -> Way | None:
    """What lies between the calls of a part and the call of one that gets gradients, and is given none to hand on.

    `parts` are the calls of all modules of the part, `fed` those of the modules that get gradients.
    """
    after = [call for call in fed if call.on and call.given is False][:_LOOKED_AT]
    for part in parts[: -_LOOKED_AT - 1 : -1]:  # the outermost module ends last
        for call in after:
            way = _on_the_way(part, call)
            if way is not None:
                return way
    return None


def _on_the_way(part: Called, fed: Called) -> Way | None:
    inner, common = _common(part.trail, fed.trail)
    if common is None:
        return None
    (code, at), (_, to) = common
    if at >= to or not always(code, at, to) or not all(straight(place, offset) for place, offset in inner):
        return None
    if not part.on:
        frames = [*inner, (code, at)]
        for place, offset in frames:
            off = switched_off(place, offset)
            if off is not None and always(place, off.mark.last, offset):
                return Way(Cutting.OFF, off.mark, off.name)
        return None
    found: list[Cutter] = []
    for place, offset in inner:
        found += [cutter for cutter in cutters(place, offset) if always(place, cutter.mark.last, offset)]
    found += [cutter for cutter in cutters(code, at, to) if always(code, cutter.mark.last, to)]
    return Way(Cutting.DETACHED, found[0].mark, found[0].name) if found else None


def _common(one: Sequence[Frame], other: Sequence[Frame]) -> tuple[list[Frame], tuple[Frame, Frame] | None]:
    """The innermost function that both are called from, each at another place; and what of the one lies within."""
    outer = list(zip_longest(reversed(one), reversed(other)))
    for number, (mine, its) in enumerate(outer):
        if mine is None or its is None or mine[0] is not its[0]:
            return [], None
        if mine[1] != its[1]:
            return list(one[: len(one) - number - 1]), (mine, its)
    return [], None
