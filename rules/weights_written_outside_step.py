"""GL806: weights change between two steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence, Severity
from gradcheck_lint.rule import Rule
from gradcheck_lint.runtime.layers import told
from gradcheck_lint.runtime.sightings.mode import WrittenOutside

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting


class WeightsWrittenOutsideStep(Rule):
    code = "GL806"
    slug = "weights-written-outside-step"
    severity = Severity.WARNING
    witnesses = frozenset({"run"})
    watches = (WrittenOutside,)

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        assert isinstance(sighting, WrittenOutside)
        step = sighting.source("the step")
        report(
            "weights are written outside of the step",
            label=f"{sighting.at_step}: {told(sighting.names)} had been changed since the step before",
            why="the optimizer knows nothing of it: its momentum belongs to the weights as they were",
            help=f"look for what writes into them between one `{step}` and the next",
            note="averages that are swapped in and a projection after each step are legitimate",
            confidence=Confidence.MEDIUM,
        )
