"""GL506: an evaluation is recorded for a backward that never comes."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from gradcheck_lint.finding import Severity
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.source.events import SetMode

if TYPE_CHECKING:
    from gradcheck_lint.source.timeline import Timeline


class ValidationBuildsGraph(Rule):
    code = "GL506"
    slug = "validation-builds-graph"
    severity = Severity.WARNING
    default: ClassVar[bool] = False  # it costs memory, and does no harm besides
    needs = (SetMode,)

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        from gradcheck_lint.facts.modes import recorded_evaluations
        from gradcheck_lint.facts.repair import text

        for found in recorded_evaluations(timeline):
            report(
                found.judged.place,
                "an evaluation is recorded for backward",
                label=f"`{text(found.judged.place)}` keeps all activations until its result is let go of",
                why="that takes as much memory as a training step, for a backward that never comes",
                help="evaluate under `torch.no_grad()` or `torch.inference_mode()`",
                related=[("in evaluation mode since here", found.off.place)],
            )
