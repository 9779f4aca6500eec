"""GL106: the gradients of one optimizer are cleared, and another optimizer makes the step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence, Severity
from gradcheck_lint.laws.cycle import STALE_STEP
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.runtime.sightings.order import StaleStep
from gradcheck_lint.source.natures import Optimizer

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting
    from gradcheck_lint.source.breach import Breach


class OtherOptimizerZeroed(Rule):
    code = "GL106"
    slug = "other-optimizer-zeroed"
    severity = Severity.ERROR
    witnesses = frozenset({"source", "run"})
    breaches = frozenset({STALE_STEP})
    watches = (StaleStep,)

    def on_breach(self, breach: Breach, report: Report) -> None:
        from gradcheck_lint.facts.repair import receiver, text
        from gradcheck_lint.facts.turns import OTHER, carried, optimizer_of
        from gradcheck_lint.source.values import things

        found = carried(breach)
        if found is None or found.how != OTHER or found.cleared is None or found.at is None:
            return
        cleared, stepped = receiver(found.cleared.place), optimizer_of(breach.step)
        if found.at != found.cleared.place:  # a call that does it, by a name of its own
            cleared = next((thing.label for thing in things(found.cleared.subject, Optimizer)), cleared)
        report(
            found.at,
            "the gradients of another optimizer are cleared than of the one that steps",
            label=f"clears `{cleared}`, but the step after it is that of `{stepped}`",
            why=f"`{stepped}` adds the gradients of all earlier iterations to each new one",
            help=f"call `{stepped}.zero_grad()` here, or step `{cleared}`",
            note="if both hold the same parameters, clearing one clears both",
            related=[
                (f"adds to the gradients that `{stepped}` used last", found.made.place),
                (f"`{text(breach.event.place)}` uses the sum", breach.event.place),
            ],
            confidence=Confidence.HIGH if found.certain else Confidence.MEDIUM,
        )

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        assert isinstance(sighting, StaleStep)
        if not sighting.other or sighting.closure is not None:
            return
        cleared = sighting.other
        stepped = sighting.optimizer.label if sighting.optimizer else "optimizer"
        report(
            "the gradients of another optimizer are cleared than of the one that steps",
            site=sighting.other_zero,
            label=f"{sighting.at_step}: `{cleared}` had been cleared here, and `{stepped}` never",
            why=f"`{stepped}` adds the gradients of all earlier iterations to each new one",
            help=f"call `{stepped}.zero_grad()` here, or step `{cleared}`",
            note="if both hold the same parameters, clearing one clears both",
            related=[
                (f"adds to the gradients that `{stepped}` used last", sighting.made),
                ("uses the sum", sighting.site),
            ],
        )
