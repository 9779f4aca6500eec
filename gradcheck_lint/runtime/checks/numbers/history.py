"""What the gradients and updates of one optimizer's layers used to be, and when that changes by orders of magnitude.

Numbers only. Curves go up and down in sound runs, so what counts here as a change is far outside of what those do.
"""

from __future__ import annotations

import math
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from gradcheck_lint.runtime.sightings.numbers import GradientExplodes, GradientVanishes, LayerChange, UpdateExtreme

if TYPE_CHECKING:
    from collections.abc import Mapping

EARLIER = 3  # samples that a layer needs before it has a history
GROWN = 100.0  # times the largest gradient so far
FADED = 1e-5  # of the usual share of all gradients
TINY = 1e-8  # of all gradients, at every sample
ALWAYS = 5  # samples at which a share was tiny
LARGE = 1.0  # an update as a part of the weights
IN_A_ROW = 3
SETTLED = 5  # the step from which on updates are judged; before, weights may begin at zero


class Change(NamedTuple):
    """A layer whose numbers are not what they were."""

    kind: type[LayerChange]
    layer: str
    now: float
    usual: float
    extreme: bool  # so far off that no sound run has it
    always: bool = False  # it was so from the beginning


class History:
    """The samples so far, by layer."""

    def __init__(self) -> None:
        self.norms: dict[str, list[float]] = {}
        self.shares: dict[str, list[float]] = {}
        self.ratios: dict[str, list[float]] = {}
        self.totals: list[float] = []

    def gradients(self, norms: Mapping[str, float]) -> list[Change]:
        """Take the norm of each layer's gradient at one more step; all finite."""
        total = math.sqrt(sum(norm * norm for norm in norms.values()))
        faint = bool(self.totals) and total < 1e-2 * median(self.totals)
        changes = []
        for layer, norm in norms.items():
            share = norm / total if total else 0.0
            earlier, shares = self.norms.setdefault(layer, []), self.shares.setdefault(layer, [])
            if len(earlier) >= EARLIER:
                changes += _exploded(layer, norm, earlier)
                if not faint:
                    changes += self._faded(layer, norm, share)
            earlier.append(norm)
            if total:
                shares.append(share)
                if share < TINY and len(shares) >= ALWAYS and len(norms) > 1 and 0 < min(shares) <= max(shares) < TINY:
                    usual = median(shares)
                    changes.append(Change(GradientVanishes, layer, share, usual, max(shares) < TINY / 100, True))
        self.totals.append(total)
        return changes

    def _faded(self, layer: str, norm: float, share: float) -> list[Change]:
        """A layer whose gradient all but disappears while those of others do not."""
        shares = self.shares[layer]
        if len(shares) < EARLIER or not 0 < share < FADED * max(shares):
            return []  # a median takes longer, and is no larger
        if norm > 1e-2 * median(self.norms[layer]):
            return []  # it is the others that have grown
        usual = median(shares)
        if share >= FADED * usual:
            return []
        return [Change(GradientVanishes, layer, share, usual, share < FADED * FADED * usual)]

    def updates(self, step: int, ratios: Mapping[str, float]) -> list[Change]:
        """Take the size of each layer's update as a part of its weights at one more step."""
        changes = []
        for layer, ratio in ratios.items():
            earlier = self.ratios.setdefault(layer, [])
            if step < SETTLED:
                continue
            earlier.append(ratio)
            latest = earlier[-IN_A_ROW:]
            if len(latest) == IN_A_ROW and min(latest) > LARGE:
                changes.append(Change(UpdateExtreme, layer, ratio, median(earlier), min(latest) > 10 * LARGE))
        return changes


def _exploded(layer: str, norm: float, earlier: list[float]) -> list[Change]:
    largest = max(earlier)
    if norm <= GROWN * largest or norm <= 1 or largest == 0:
        return []
    usual = median(earlier)
    extreme = norm > 1e4 and norm > 10 * GROWN * largest and norm > 1e6 * usual
    return [Change(GradientExplodes, layer, norm, usual, extreme)]
