"""What else is looked at while a run is watched: each check is a class with the hooks that it needs (`check`).

A check turns what it sees into sightings and leaves the judgement to the rules. It lives in a module of this folder
and is listed here; the session calls its hooks and guards each of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradcheck_lint.runtime.check import Check


def checks() -> list[type[Check]]:
    """All checks, in the order in which they are asked."""
    from gradcheck_lint.runtime.checks.attributes import Attributes
    from gradcheck_lint.runtime.checks.bypassed import Bypassed
    from gradcheck_lint.runtime.checks.construction import Construction
    from gradcheck_lint.runtime.checks.effects import Effects
    from gradcheck_lint.runtime.checks.freezing import Freezing
    from gradcheck_lint.runtime.checks.functions import Functions
    from gradcheck_lint.runtime.checks.holders import Holders
    from gradcheck_lint.runtime.checks.identity import Identity
    from gradcheck_lint.runtime.checks.leaks import Leaks
    from gradcheck_lint.runtime.checks.losses import Losses
    from gradcheck_lint.runtime.checks.modes import Modes
    from gradcheck_lint.runtime.checks.placement import Placement
    from gradcheck_lint.runtime.checks.plateaus import Plateaus
    from gradcheck_lint.runtime.checks.precision import Precision
    from gradcheck_lint.runtime.checks.ranks import Ranks
    from gradcheck_lint.runtime.checks.rates import Rates
    from gradcheck_lint.runtime.checks.rebuilt import Rebuilt
    from gradcheck_lint.runtime.checks.restored import Restored
    from gradcheck_lint.runtime.checks.retained import Retained
    from gradcheck_lint.runtime.checks.rounds import Rounds
    from gradcheck_lint.runtime.checks.scalars import Scalars
    from gradcheck_lint.runtime.checks.storage import Storage
    from gradcheck_lint.runtime.checks.strays import Strays
    from gradcheck_lint.runtime.checks.units import Units
    from gradcheck_lint.runtime.checks.values import Values
    from gradcheck_lint.runtime.checks.writes import Writes
    from gradcheck_lint.runtime.norms import Norms

    return [
        Functions,
        Holders,
        Bypassed,
        Strays,
        Identity,
        Attributes,
        Storage,
        Construction,
        Norms,
        Freezing,
        Losses,
        Plateaus,
        Leaks,
        Retained,
        Rounds,
        Rates,
        Rebuilt,
        Values,
        Effects,
        Modes,
        Restored,
        Placement,
        Precision,
        Writes,
        Units,
        Scalars,
        Ranks,  # the last: it hands over what all others have found
    ]
