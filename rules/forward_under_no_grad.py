"""GL404: the training pass runs while gradients are switched off."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence, Fix, Safety, Severity
from gradcheck_lint.laws.reach import Cut
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.runtime.sightings.mode import StepWithoutGradMode
from gradcheck_lint.runtime.sightings.reach import BackwardRefused
from gradcheck_lint.source.events import Backward, GradMode

if TYPE_CHECKING:
    from gradcheck_lint.facts.definitions import DefinitionFacts
    from gradcheck_lint.facts.gradmode import NotEntered
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting
    from gradcheck_lint.source.timeline import Timeline


class ForwardUnderNoGrad(Rule):
    code = "GL404"
    slug = "forward-under-no-grad"
    severity = Severity.ERROR
    fix = Safety.SAFE
    witnesses = frozenset({"source", "run"})
    triggers = (  # each begins with the word that is looked for, which is found fast
        r"no_grad(?<=[ \t]torch\.no_grad)(?:\(\)[ \t]*[\n#]|\s*[:,])"
        r"|inference_mode(?<=[ \t]torch\.inference_mode)(?:\(\)[ \t]*[\n#]|\s*[:,])"
    )
    needs = (GradMode, Backward)
    watches = (BackwardRefused, StepWithoutGradMode)

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        from gradcheck_lint.facts.gradmode import switched_off, unrecorded
        from gradcheck_lint.facts.repair import text

        for found in switched_off(timeline):
            report(
                found.off.place,
                "gradients are switched off, and the training goes on without them",
                label=f"nothing switches them on again before `{text(found.trained.place)}`",
                why="torch records no graph, so there is nothing that backward could go through",
                help="evaluate in a block, `with torch.no_grad():`, which switches back where it is left",
                related=[("trains on here", found.trained.place)],
            )

        for pair in unrecorded(timeline):
            report(
                pair.backward.place,
                "the training pass runs without gradients",
                label=f"the `forward` behind it is decorated with `{pair.decorated}`"
                if pair.decorated
                else "the pass behind it is in the same block, in which nothing is recorded",
                why="torch records no graph, so there is nothing that backward could go through",
                help="take the decorator off, and switch gradients off where the model is evaluated"
                if pair.decorated
                else "run the forward pass and the loss outside of the block",
                related=[("not recorded", pair.passed)],
            )
        self.on_losses(timeline, report)

    def on_losses(self, timeline: Timeline, report: Report) -> None:
        from gradcheck_lint.facts.query import once
        from gradcheck_lint.facts.refused import refused

        for found in once(timeline, refused):
            if not found.cut.off or found.cut.place is None:
                continue  # GL402 is about losses that were cut off
            report(
                found.backward.place,
                "the training pass runs without gradients",
                label="what this runs on was made where gradients are switched off",
                why="torch records no graph, so there is nothing that backward could go through",
                help="run the forward pass and the loss of the training outside of `torch.no_grad()` and its like",
                related=[("not recorded", found.cut.place)],
                confidence=Confidence.HIGH if found.certain else Confidence.MEDIUM,
            )

    def on_definition(self, definition: DefinitionFacts, report: Report) -> None:
        from gradcheck_lint.facts.gradmode import not_entered

        for found in not_entered(definition):
            report(
                found.place,
                f"`{found.name}` is " + ("called and not entered" if found.called else "named and not called"),
                label="makes a context, and throws it away" if found.called else "a class, which is no context yet",
                why="what follows is recorded for backward as if the line were not there"
                if found.called
                else "Python raises an error where it comes to this line",
                help=f"write `with torch.{found.name}():` around what it is meant for",
                fix=self.call(found),
            )

    def call(self, found: NotEntered) -> Fix | None:
        from gradcheck_lint.facts.repair import append

        if found.called:
            return None
        return Fix("call it", Safety.SAFE, (append(found.place, "()"),))

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        if isinstance(sighting, StepWithoutGradMode):
            self.at_step(sighting, report)
            return
        assert isinstance(sighting, BackwardRefused)
        because = sighting.because
        if because in (Cut.DETACHED, Cut.NOTHING):
            return  # GL402 is about losses that were cut off
        mode = "torch.inference_mode()" if sighting.inference else "torch.no_grad()"
        if because is Cut.DECORATED:
            told = f"the `forward` of {sighting.names[0]} is decorated so that it records no graph"
            help = "take the decorator off, and switch gradients off where the model is evaluated"
        elif because is Cut.INFERENCE:
            told = "the loss was made under `torch.inference_mode()`"
            help = "run the forward pass and the loss outside of `torch.inference_mode()`"
        else:
            told = "gradients are switched off here"
            help = (
                f"leave the `{mode}` block before training; after `torch.set_grad_enabled(False)` call "
                "`torch.set_grad_enabled(True)`"
            )
        report(
            "the training pass runs without gradients",
            label=f"{sighting.at_step}: {told}",
            why="torch records no graph, so there is nothing that backward could go through",
            help=help,
            related=[("made here", sighting.made)],
        )

    def at_step(self, sighting: StepWithoutGradMode, report: RunReport) -> None:
        name = sighting.optimizer.label if sighting.optimizer else "optimizer"
        left = sighting.left
        lost = f"of {sighting.before} parameters that had a gradient before, {left} have one" if left > 1 else ""
        lost = lost or (f"of {sighting.before} parameters that had a gradient before, one has" if left else "")
        report(
            "the training pass runs without gradients",
            label=f"{sighting.at_step}: gradients are switched off, and {lost or 'no parameter has one'}",
            why="what is computed without gradients learns nothing, though the loss may go on falling"
            if left
            else f"`{sighting.source(f'{name}.step()')}` finds nothing to use, so nothing is learned",
            help="run the forward pass and backward where gradients are on; after `torch.set_grad_enabled(False)` call "
            "`torch.set_grad_enabled(True)`",
        )
