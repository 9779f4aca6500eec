"""GL103: gradients are cleared after backward has made them and before any step has used them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence, Fix, Safety, Severity
from gradcheck_lint.laws.cycle import ERASED_STEP, NOTHING_NEW
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.runtime.sightings.order import ErasedStep
from gradcheck_lint.source.events import Step

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting
    from gradcheck_lint.source.breach import Breach
    from gradcheck_lint.source.events import Event


class GradientsErasedBeforeStep(Rule):
    code = "GL103"
    slug = "gradients-erased-before-step"
    severity = Severity.ERROR
    fix = Safety.SAFE
    witnesses = frozenset({"source", "run"})
    breaches = frozenset({ERASED_STEP})
    watches = (ErasedStep,)

    def on_breach(self, breach: Breach, report: Report) -> None:
        from gradcheck_lint.facts.repair import text
        from gradcheck_lint.facts.turns import swapped

        if swapped(breach):
            return  # GL104
        step = text(breach.event.place)
        for cleared in breach.cleared:
            report(
                cleared.place,
                "gradients are cleared between backward and step",
                label="throws away what backward has just computed",
                why=f"`{step}` finds no gradients, and does nothing",
                help=f"clear them after `{step}`, or before the backward",
                related=[("made here", made.place) for made in breach.made] + [("not used here", breach.event.place)],
                fix=self.mend(breach, cleared, step) if len(breach.cleared) == 1 else None,
                confidence=Confidence.HIGH if breach.certain else Confidence.MEDIUM,
            )

    def mend(self, breach: Breach, cleared: Event, step: str) -> Fix | None:
        """Move the clearing behind the step, where both stand in one block."""
        from gradcheck_lint.facts.repair import move_after, text
        from gradcheck_lint.facts.turns import alone, beside

        here = alone(cleared)
        there = next((b.stand for b in beside(breach, cleared, Step) if b.event.place == breach.event.place), None)
        if here is None or there is None or there.position < here.position:
            return None
        return Fix(f"move `{text(cleared.place)}` behind `{step}`", Safety.SAFE, move_after(here, there))

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        assert isinstance(sighting, ErasedStep)
        if sighting.began in NOTHING_NEW or not sighting.tally.always:
            return  # GL104, or a step that mostly finds gradients
        step, cleared = sighting.source("optimizer.step()"), sighting.cleared
        report(
            "gradients are cleared between backward and step",
            site=cleared,
            label=f"{sighting.at_step}: nothing was left of the gradients that backward had made",
            why=f"`{step}` finds no gradients, and does nothing",
            help=f"clear them after `{step}`, or before the backward",
            related=[("made here", sighting.made), ("not used here", sighting.site)],
        )
