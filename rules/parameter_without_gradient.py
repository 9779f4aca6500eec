"""GL408: a parameter of the optimizer that no backward ever reached."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence, Severity
from gradcheck_lint.rule import Rule
from gradcheck_lint.runtime.sightings.reach import NeverAGradient

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting


class ParameterWithoutGradient(Rule):
    code = "GL408"
    slug = "parameter-without-gradient"
    severity = Severity.WARNING
    witnesses = frozenset({"run"})
    watches = (NeverAGradient,)

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        assert isinstance(sighting, NeverAGradient)
        from gradcheck_lint.runtime.layers import told

        if sighting.branch:
            return  # another of these modules was taken; this one's turn may come
        names = sighting.names
        one = len(names) == 1
        report(
            f"{'a parameter' if one else 'parameters'} of the optimizer never got a gradient",
            label=f"{told(names)}: none in the {sighting.checked} steps of "
            f"{sighting.optimizer.label if sighting.optimizer else 'the optimizer'} that were checked",
            why=f"no loss depends on {'it' if one else 'them'} in a way that backward can follow, so each step passes "
            f"{'it' if one else 'them'} by",
            help=f"use {'it' if one else 'them'} in `forward` without `.detach()`, `.item()`, `.data` or `no_grad`; or "
            f"freeze {'it' if one else 'them'} with `requires_grad_(False)`",
            note="a part of a library's model that this task does not use is harmless",
            confidence=Confidence.MEDIUM,
            subject=sighting.prefix,
        )
