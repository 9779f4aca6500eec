"""GL413: backward runs on a sum in which the losses of earlier steps are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.facts import regone
from gradcheck_lint.finding import Severity
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.runtime.sightings.order import RunningTotal

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting
    from gradcheck_lint.source.timeline import Timeline

HEADLINE = "backward runs on a sum that holds losses of earlier steps"
WHY = (
    "torch goes through the old graphs again: it refuses, or it repeats the gradients of earlier batches, "
    "with weights that the model no longer has"
)
HELP = "call backward on the loss of this batch alone, and keep the sum for the log with `.item()`"


class BackwardOnRunningTotal(Rule):
    code = "GL413"
    slug = "backward-on-running-total"
    severity = Severity.ERROR
    witnesses = frozenset({"source", "run"})
    watches = (RunningTotal,)

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        for back in regone.backwards(timeline):
            loop, kept = back.each, regone.kept(back.event)
            if loop is None or kept is None or (kept and not regone.steps_in(timeline, loop)):
                continue
            carried = regone.carried(back, loop)
            if carried is None or not carried[1]:
                continue  # GL112 tells of a hidden state
            report(
                back.event.place,
                HEADLINE,
                label="goes back through the losses of all rounds of this loop before it",
                why=WHY,
                help=HELP,
                related=regone.made(carried[0]),
                confidence=regone.confidence(timeline),
            )

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        assert isinstance(sighting, RunningTotal)
        name = f"`{sighting.names[0]}`" if sighting.names else "this sum"
        report(
            HEADLINE,
            label=f"{sighting.at_step}: {name} contains the loss that backward was called on at step "
            f"{sighting.earlier}",
            why=WHY,
            help=HELP,
            related=[("added up here", sighting.made)],
        )
