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
    return bool(sighting.detail["zeros"]) and (site is None or not site.text or "zero" in site.text)
