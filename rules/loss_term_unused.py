"""GL411: a term of the loss is computed, and nothing is done with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence, Severity
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.source import events as ev

if TYPE_CHECKING:
    from gradcheck_lint.source.timeline import Timeline


class LossTermUnused(Rule):
    code = "GL411"
    slug = "loss-term-unused"
    severity = Severity.WARNING
    needs = (ev.Backward,)

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        from gradcheck_lint.facts.unused_terms import unused

        for found in unused(timeline):
            report(
                found.event.place,
                f"`{found.name}` is computed as a loss, and nothing is done with it",
                label="is never read again",
                why="backward runs on a loss that it is no term of, so it trains nothing",
                help=f"add `{found.name}` to the loss that backward runs on, or do not compute it",
                related=[("backward runs here", found.backward.place)],
                confidence=Confidence.HIGH if found.sure else Confidence.MEDIUM,
            )
