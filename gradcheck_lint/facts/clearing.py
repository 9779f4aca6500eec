"""Whether a run clears the gradients by the user's own call."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradcheck_lint.runtime.record import Sighting


def clears(sighting: Sighting) -> bool:
    """Whether a line of the user's clears the gradients of the optimizer somewhere.

    A framework may clear them too, once in an epoch say, without being asked: the line of the user's is then the one
    that has called the framework.
    """
    site = sighting.sites.get("zero")
    if sighting.detail.get("outside"):
        return True  # it will, when the loop is over
    return bool(sighting.detail["zeros"]) and (site is None or not site.text or "zero" in site.text)


def stopped(sighting: Sighting) -> bool:
    """Whether each step had clean gradients for a while, and all that had not came after the last clearing."""
    times, of, cleared = (sighting.detail[key] for key in ("times", "of", "cleared_at"))
    return bool(of - times >= _A_WHILE and (cleared is None or sighting.step - cleared >= times))


def again(sighting: Sighting) -> bool:
    """Whether each round clears the gradients, and makes one more step than that: GL101, and nothing is outside.

    One line has then met used gradients whenever it ran, and in the same loop they were cleared as often.
    """
    times, of, zeros = (sighting.detail[key] for key in ("times", "of", "zeros"))
    return bool(times == of > 1 and zeros >= times and sighting.detail["each_round"] and clears(sighting))


_A_WHILE = 10
