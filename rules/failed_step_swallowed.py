"""GL122: an error in the middle of a training step is swallowed, and the gradients that were there stay."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence, Severity
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.source.events import Backward

if TYPE_CHECKING:
    from gradcheck_lint.source.timeline import Timeline


class FailedStepSwallowed(Rule):
    code = "GL122"
    slug = "failed-step-swallowed"
    severity = Severity.WARNING
    needs = (Backward,)

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        from gradcheck_lint.facts.swallowed import swallowing

        for found in swallowing(timeline):
            zero = found.cleared
            if zero is not None and not found.silent:
                continue  # it is told, and nothing is left
            report(
                found.handler,
                "an error in the middle of a training step is swallowed",
                label="goes on with the next batch, whatever has happened",
                why="the gradients of the batch that failed stay, and are added to those of the next one"
                if zero is None
                else "a step that fails each time trains nothing, and nobody hears of it",
                help="clear the gradients and say what happened, or let the error through",
                related=[("backward runs here", found.backward.place)],
                confidence=Confidence.HIGH if zero is None else Confidence.MEDIUM,
            )
