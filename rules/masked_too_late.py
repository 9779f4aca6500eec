"""GL415: NaN in the targets is masked after the operation whose gradient it has spoiled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence, Severity
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.source import events as ev

if TYPE_CHECKING:
    from gradcheck_lint.source.timeline import Timeline


class MaskedTooLate(Rule):
    code = "GL415"
    slug = "masked-too-late"
    severity = Severity.ERROR
    needs = (ev.Backward,)

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        from gradcheck_lint.facts.masked import masked_late

        for found in masked_late(timeline):
            spoiled = found.spoiled.place
            report(
                found.place,
                "NaN is masked after the operation that it has spoiled the gradient of",
                label="leaves NaN out of the loss, and not out of its gradient",
                why="what is left out gets a gradient of 0, and 0 times NaN is NaN: each weight gets it",
                help="mask the prediction and the target before they are compared, or replace NaN in the target",
                related=[
                    *([("the derivative of this has NaN in it", spoiled)] if spoiled is not None else []),
                    ("backward runs here", found.backward.place),
                ],
                confidence=Confidence.MEDIUM if timeline.cut else Confidence.HIGH,
            )
