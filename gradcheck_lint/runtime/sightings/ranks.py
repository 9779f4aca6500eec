"""What differs between the ranks of one run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from gradcheck_lint.runtime.sighting import Sighting, kind

if TYPE_CHECKING:
    from gradcheck_lint.runtime.record import Site

What = Literal["steps", "order", "rates", "start", "gradients", "parameters"]
"""What differs; "start" are the parameters before any update."""


@kind
class RanksApart(Sighting):
    what: What
    ranks: tuple[int, int]  # one that differs, and one that it differs from
    values: tuple[Any, Any]  # theirs
    total: int  # parameters that could be compared
    certain: bool
    clips: tuple[int, int]  # how often they had clipped
    clip: Site | None
