"""GL409: the discriminator's loss reaches the generator, whose own step uses what it leaves there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.facts.leaking import report_leak
from gradcheck_lint.finding import Confidence, Severity
from gradcheck_lint.rule import Rule
from gradcheck_lint.runtime.sightings.order import LeakUpstream

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting


class GanDetachMissing(Rule):
    code = "GL409"
    slug = "gan-detach-missing"
    severity = Severity.ERROR
    witnesses = frozenset({"run"})
    watches = (LeakUpstream,)

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        assert isinstance(sighting, LeakUpstream)
        report_leak(
            sighting,
            report,
            "the loss of one network reaches the one that feeds it, and that one's step uses it",
            why="what `{mine}` holds is trained to help what `{theirs}` holds, and against it by its own loss",
            instead="`.detach()` what goes into this loss",
            confidence=Confidence.HIGH if sighting.real else Confidence.MEDIUM,
        )
