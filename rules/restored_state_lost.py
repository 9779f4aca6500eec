"""GL213: what was restored from a checkpoint is given to other parameters, or lost before the first step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.facts.reinitialised import built_anew, left_out, reinitialised
from gradcheck_lint.finding import Confidence, Severity
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.runtime.layers import told
from gradcheck_lint.runtime.sightings.holding import RateLost, RestoredInVain, StatePermuted
from gradcheck_lint.source.events import Initialise, LoadState

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting
    from gradcheck_lint.source.timeline import Timeline


class RestoredStateLost(Rule):
    code = "GL213"
    slug = "restored-state-lost"
    severity = Severity.ERROR
    witnesses = frozenset({"source", "run"})
    needs = (LoadState,)
    watches = (StatePermuted, RateLost, RestoredInVain)

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        for event in timeline.events(LoadState):
            anew = built_anew(timeline, event)
            if anew is not None:
                report(
                    anew.place,
                    "an optimizer is built anew after its state was restored",
                    label=f"`{anew.subject.label}` begins without the state that another one was given",
                    why="the one that was restored never steps, so the momentum of the checkpoint is lost",
                    help="load the state into the optimizer that trains",
                    note="to begin with a fresh optimizer on purpose is legitimate",
                    related=[("the state is restored here", event.place)],
                    confidence=Confidence.MEDIUM,
                )
            key = left_out(timeline, event)
            if key is not None:
                report(
                    event.place,
                    "training goes on without the state of the optimizer",
                    label=f"takes the weights of the checkpoint, and nothing reads its `{key}`",
                    why="the count of the checkpoint goes on, and the momentum that belongs to it is lost",
                    help=f"load `{key}` into the optimizer as well",
                    note="to begin with a fresh optimizer on purpose is legitimate",
                    confidence=Confidence.MEDIUM,
                )
            drawn = reinitialised(timeline, event) if timeline.has(Initialise) else None
            if drawn is None:
                continue
            name = f"`{drawn.subject.label}`" if drawn.subject.label else "the model"
            report(
                drawn.place,
                "the weights are initialised after a state was loaded",
                label=f"draws the weights of {name} anew",
                why="what was loaded is lost before it is used",
                help="initialise the model first, and load the state last",
                related=[("the state is loaded here", event.place)],
            )

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        if isinstance(sighting, StatePermuted):
            self.permuted(sighting, report)
        elif isinstance(sighting, RateLost):
            self.rate(sighting, report)
        elif isinstance(sighting, RestoredInVain):
            self.vain(sighting, report)

    def permuted(self, sighting: StatePermuted, report: RunReport) -> None:
        names = sighting.names
        name = sighting.optimizer.label if sighting.optimizer else "the optimizer"
        report(
            "the optimizer's state is given to other parameters",
            label=f"{told(names)} of {sighting.total} get what belongs to others: "
            f"`{names[0]}` that of `{sighting.given[0]}`",
            why="a state is matched by position alone, and the model of the checkpoint had its layers in another order",
            help=f"register the layers in a fixed order, such as a sorted one, before `{name}` is built",
            note=""
            if sighting.sure
            else "if the optimizer and the model come from different checkpoints, "
            "their orders need have nothing to do with each other",
            related=[("built here", sighting.built)],
            confidence=Confidence.HIGH if sighting.sure else Confidence.MEDIUM,
        )

    def rate(self, sighting: RateLost, report: RunReport) -> None:
        name = sighting.optimizer.label if sighting.optimizer else "the optimizer"
        report(
            "the restored learning rate is overwritten by a new scheduler",
            label=f"{sighting.at_step}: the rate is {sighting.now:.6g}, to which this sets it; the checkpoint has "
            f"{sighting.restored:.6g}",
            why=f"loading a scheduler restores its count, here {sighting.epoch}, and leaves the rate as it is",
            help=f"build the scheduler before `{name}` is given its state",
            related=[("restored here", sighting.loaded)],
        )

    def vain(self, sighting: RestoredInVain, report: RunReport) -> None:
        name = sighting.optimizer.label if sighting.optimizer else "the optimizer"
        report(
            "an optimizer is built anew after its state was restored",
            label=f"`{name}` begins without the state that another one was given for its parameters",
            why="the one that was restored never steps, so the momentum of the checkpoint is lost",
            help="load the state into the optimizer that trains",
            note="to begin with a fresh optimizer on purpose is legitimate",
            related=[("restored here", sighting.loaded)],
            confidence=Confidence.MEDIUM,
        )
