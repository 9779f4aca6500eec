"""GL215: an average of a network stays as it was made, or lacks the statistics that go with its weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.facts import averages
from gradcheck_lint.facts.identity import name_of
from gradcheck_lint.finding import Severity
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.source.events import Step

if TYPE_CHECKING:
    from gradcheck_lint.source.timeline import Timeline


class AverageNeverMoves(Rule):
    code = "GL215"
    slug = "average-never-moves"
    severity = Severity.ERROR
    needs = (Step,)

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        found = None if timeline.cut else averages.followed(timeline)
        if found is not None:
            name = f"`{found.network.label}`" if found.network.label else "the network"
            report(
                found.copy.place or found.taken.place,
                "an average follows a network that never moves",
                label=f"a copy of {name}, from which the average is taken",
                why=f"`{name_of(found.step)}.step()` moves {name} and not the copy, so that the average stays as it is",
                help=f"let the average follow {name} itself",
                related=[("the average is moved here", found.taken.place), ("steps here", found.step.place)],
            )
        for average in averages.averaged(timeline):
            if not averages.moved(timeline):
                report(
                    average.made.place,
                    "an average is made and never moved",
                    label=f"`{average.name}` stays as the network is here",
                    why="nothing calls `update_parameters()`, so that the average has nothing of the training",
                    help=f"call `{average.name}.update_parameters({average.network.label})` after the steps",
                )
            elif (
                averages.normalises(average.network)
                and averages.run_later(timeline, average)
                and not averages.takes_statistics(average)
                and not averages.renewed(timeline)
            ):
                report(
                    average.made.place,
                    "an average is run with the statistics of the network that it follows",
                    label=f"the batch norms in `{average.name}` have the statistics of `{average.network.label}`",
                    why="`update_parameters()` averages the weights and copies the buffers, which fit other weights",
                    help=f"call `torch.optim.swa_utils.update_bn(loader, {average.name})` before it is run",
                )
