"""GL121: the loss is divided by the size of the accumulation window after its backward has run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Severity
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.source import events as ev

if TYPE_CHECKING:
    from gradcheck_lint.source.timeline import Timeline


class LossScaledAfterBackward(Rule):
    code = "GL121"
    slug = "loss-scaled-after-backward"
    severity = Severity.ERROR
    needs = (ev.Backward,)

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        from gradcheck_lint.facts.late import divided_late

        for late in divided_late(timeline):
            report(
                late.event.statement,
                "the loss is divided after its backward has run",
                label=f"divides by `{late.size}` what backward has used whole",
                why=f"each step adds up {late.size} whole gradients: what is divided here reaches none of them",
                help=f"divide the loss by `{late.size}` before its backward",
                related=[("backward runs here", late.made.place)],
            )
