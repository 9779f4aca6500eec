"""GL215: an average of weights that does not follow the model, or has statistics that do not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence, Severity
from gradcheck_lint.laws.answer import YES
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.runtime.sightings.numbers import AverageStill, StatisticsOfAnother
from gradcheck_lint.source.events import Build, Step

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting
    from gradcheck_lint.source.timeline import Timeline


class AverageNeverMoves(Rule):
    code = "GL215"
    slug = "average-never-moves"
    severity = Severity.ERROR
    witnesses = frozenset({"source", "run"})
    watches = (AverageStill, StatisticsOfAnother)
    triggers = r"AveragedModel\(|load_state_dict\(|deepcopy\(|\.copy_\(|EMA\w*\("
    needs = (Build, Step)

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        from gradcheck_lint.facts.averaged_copy import followed
        from gradcheck_lint.facts.averages import stale, still
        from gradcheck_lint.facts.identity import name_of
        from gradcheck_lint.facts.query import receiver
        from gradcheck_lint.facts.repair import argument

        self.followers(timeline, report)
        self.forgotten(timeline, report)
        copied = None if timeline.cut else followed(timeline)
        if copied is not None:
            network = f"`{copied.network.label}`" if copied.network.label else "the network"
            report(
                copied.copy.place or copied.taken.place,
                "an average follows a network that never moves",
                label=f"a copy of {network}, from which the average is taken",
                why=f"`{name_of(copied.step)}.step()` moves {network} and not the copy, so the average stays as it is",
                help=f"let the average follow {network} itself",
                related=[("the average is moved here", copied.taken.place), ("steps here", copied.step.place)],
            )
        for found in still(timeline):
            name = found.built.subject.label or "the average"
            model = argument(found.built.place, 0) or "model"
            report(
                found.built.place,
                "an average of weights is never moved",
                label=f"stays what `{model}` is here",
                why="what is evaluated is the model at the start, and not what was learned",
                help=f"call `{name}.update_parameters({model})` after each step, or after each epoch",
                related=[("trained here", found.step.place), ("used here", found.used.place)],
            )
        for late in stale(timeline):
            name = receiver(late.used) or "the average"
            report(
                late.used.place,
                "an average of weights is evaluated with the statistics of another model",
                label="its norm layers have the statistics of the model that was trained",
                why="averaged weights give other activations than those that the statistics were taken of",
                help=f"call `update_bn(loader, {name})` of `torch.optim.swa_utils` before, or say `use_buffers=True`",
                related=[("built here", late.built.place), ("averaged here, without the statistics", late.moved.place)],
                confidence=Confidence.HIGH if late.normed is YES else Confidence.MEDIUM,
            )

    @staticmethod
    def forgotten(timeline: Timeline, report: Report) -> None:
        """Averages of a class of the project."""
        from gradcheck_lint.facts.forgotten_average import forgotten
        from gradcheck_lint.facts.identity import name_of
        from gradcheck_lint.facts.repair import argument

        for found in forgotten(timeline):
            model = argument(found.place, 0) or "the model"
            report(
                found.place,
                "an average of weights is never moved",
                label=f"stays what `{model}` is here: nothing calls `{found.name}.{found.moves}`",
                why=f"`{found.name}.{found.uses}` gives the model at the start, and not what was learned",
                help=f"call `{found.name}.{found.moves}` after each `{name_of(found.step)}.step()`",
                related=[("trained here", found.step.place)],
            )

    def followers(self, timeline: Timeline, report: Report) -> None:
        from gradcheck_lint.facts import following
        from gradcheck_lint.facts.identity import name_of
        from gradcheck_lint.facts.query import called

        for wrong in following.wrong_way(timeline):
            network, target = called([wrong.write.network]), called([wrong.target])
            report(
                wrong.write.event.place,
                "a network is given the weights of the one that should follow it",
                label=f"writes into {network}, and nothing ever moves {target}",
                why=f"what `{name_of(wrong.step)}.step()` does to {network} is undone, and {target} stays as it was",
                help=f"write the weights of {network} into {target}",
                related=[(f"{target} is used here", wrong.run.place), ("steps here", wrong.step.place)],
                confidence=Confidence.MEDIUM,  # a model that is put back for each task has a copy that stays, too
            )
        for left in following.still(timeline):
            network, average = called([left.network]), called([left.copied.subject])
            report(
                left.copied.place,
                "an average of weights is never moved",
                label=f"stays what {network} is here",
                why="what is evaluated is the model at the start, and not what was learned",
                help=f"move {average} after each step",
                related=[("trained here", left.step.place), ("used here", left.run.place)],
                confidence=Confidence.MEDIUM,  # by a call that hides what it writes
            )

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        (name,) = sighting.names
        if isinstance(sighting, StatisticsOfAnother):
            report(
                "an average of weights is evaluated with the statistics of another model",
                label="its norm layers have the statistics of the model that was trained",
                why="averaged weights give other activations than those that the statistics were taken of",
                help=f"call `update_bn(loader, {name})` of `torch.optim.swa_utils` before, or say `use_buffers=True`",
            )
            return
        assert isinstance(sighting, AverageStill)
        report(
            "an average of weights is never moved",
            label=f"{sighting.at_step}: `{name}` has been written at each step and is what it was, "
            f"while `{sighting.network}` has moved",
            why=f"what is added is less than half of the distance between neighbouring {sighting.half} numbers"
            if sighting.half
            else f"what it is moved towards is itself, or a copy that stays as it is, and not `{sighting.network}`",
            help=f"keep the weights of `{name}` in float32"
            if sighting.half
            else f"take the weights from `{sighting.network}`",
            confidence=Confidence.HIGH if sighting.sure and not sighting.half else Confidence.MEDIUM,
        )
