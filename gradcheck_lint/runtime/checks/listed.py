"""All checks, in the order in which they are asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.runtime.checks.clock.lengths import Lengths
from gradcheck_lint.runtime.checks.clock.rates import Rates
from gradcheck_lint.runtime.checks.clock.rebuilt import Rebuilt
from gradcheck_lint.runtime.checks.holding.aliases import Aliases
from gradcheck_lint.runtime.checks.holding.attributes import Attributes
from gradcheck_lint.runtime.checks.holding.construction import Construction
from gradcheck_lint.runtime.checks.holding.followers import Followers
from gradcheck_lint.runtime.checks.holding.groups import Groups
from gradcheck_lint.runtime.checks.holding.holders import Holders
from gradcheck_lint.runtime.checks.holding.identity import Identity
from gradcheck_lint.runtime.checks.holding.placement import Placement
from gradcheck_lint.runtime.checks.holding.redrawn import Redrawn
from gradcheck_lint.runtime.checks.holding.restored import Restored
from gradcheck_lint.runtime.checks.holding.storage import Storage
from gradcheck_lint.runtime.checks.holding.strays import Strays
from gradcheck_lint.runtime.checks.mode.expected import Expected
from gradcheck_lint.runtime.checks.mode.freezing import Freezing
from gradcheck_lint.runtime.checks.mode.masks import Masks
from gradcheck_lint.runtime.checks.mode.modes import Modes
from gradcheck_lint.runtime.checks.mode.norms import Norms
from gradcheck_lint.runtime.checks.mode.precision import Precision
from gradcheck_lint.runtime.checks.mode.switched import Switched
from gradcheck_lint.runtime.checks.mode.writes import Writes
from gradcheck_lint.runtime.checks.numbers.effects import Effects
from gradcheck_lint.runtime.checks.numbers.scalars import Scalars
from gradcheck_lint.runtime.checks.numbers.units import Units
from gradcheck_lint.runtime.checks.numbers.values import Values
from gradcheck_lint.runtime.checks.order.bypassed import Bypassed
from gradcheck_lint.runtime.checks.order.changed import Changed
from gradcheck_lint.runtime.checks.order.leaks import Leaks
from gradcheck_lint.runtime.checks.order.retained import Retained
from gradcheck_lint.runtime.checks.order.rounds import Rounds
from gradcheck_lint.runtime.checks.ranks.ranks import Ranks
from gradcheck_lint.runtime.checks.reach.cuts import Cuts
from gradcheck_lint.runtime.checks.reach.functions import Functions
from gradcheck_lint.runtime.checks.reach.ignoring import Ignoring
from gradcheck_lint.runtime.checks.reach.losses import Losses
from gradcheck_lint.runtime.checks.reach.plateaus import Plateaus
from gradcheck_lint.runtime.checks.reach.taken_once import ValuesTaken

if TYPE_CHECKING:
    from gradcheck_lint.runtime.check import Check

CHECKS: tuple[type[Check], ...] = (
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
    Expected,
    Cuts,
    Losses,
    Plateaus,
    Leaks,
    Retained,
    Rounds,
    Changed,
    Rates,
    Lengths,
    Rebuilt,
    Values,
    Effects,
    Modes,
    Switched,
    Redrawn,
    Restored,
    Placement,
    Precision,
    Writes,
    Masks,
    Followers,
    Aliases,
    Groups,
    Ignoring,
    ValuesTaken,
    Units,
    Scalars,
    Ranks,  # the last: it hands over what all others have found
)
