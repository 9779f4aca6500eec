"""GL319: an optimizer with a training mode and an evaluation mode is never switched."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Severity
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.runtime.sightings.mode import JudgedInTraining
from gradcheck_lint.source.events import BuildOptimizer

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting
    from gradcheck_lint.source.timeline import Timeline


class OptimizerModeForgotten(Rule):
    code = "GL319"
    slug = "optimizer-mode-forgotten"
    severity = Severity.ERROR
    witnesses = frozenset({"source", "run"})
    needs = (BuildOptimizer,)
    watches = (JudgedInTraining,)

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        from gradcheck_lint.facts.optimizer_modes import unswitched
        from gradcheck_lint.facts.query import spoken
        from gradcheck_lint.facts.repair import text

        for found in unswitched(timeline):
            name = spoken(found.step) or "the optimizer"
            if found.judged is None:
                report(
                    found.step.place,
                    "a schedule-free optimizer steps, and was never put into training mode",
                    label=f"nothing calls `{name}.train()`",
                    why="it steps from an average of the weights and not from the weights; newer versions refuse to",
                    help=f"call `{name}.train()` where `model.train()` belongs, and `{name}.eval()` before evaluation",
                    related=[("built here", found.built.place)],
                )
            else:
                report(
                    found.judged.place,
                    "a model is evaluated while its schedule-free optimizer is in training mode",
                    label=f"`{text(found.judged.place)}` switches the model, and nothing calls `{name}.eval()`",
                    why="the model has the weights that gradients are taken at, and not the average that was learned",
                    help=f"call `{name}.eval()` here, and `{name}.train()` before the training goes on",
                    related=[("built here", found.built.place), ("steps here", found.step.place)],
                )

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        assert isinstance(sighting, JudgedInTraining)
        name = sighting.optimizer.label if sighting.optimizer else "optimizer"
        report(
            "a model is evaluated while its schedule-free optimizer is in training mode",
            label=f"after step {sighting.step} of {name}: switches the model, and nothing calls `{name}.eval()`",
            why="the model has the weights that gradients are taken at, and not the average that was learned",
            help=f"call `{name}.eval()` here, and `{name}.train()` before the training goes on",
            related=[("built here", sighting.built), ("steps here", sighting.stepped)],
        )
