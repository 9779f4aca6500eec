"""GL213: what was restored from a checkpoint is given to other parameters, or lost before the first step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.facts.built_anew import built_anew, model_anew
from gradcheck_lint.facts.reinitialised import left_out, reinitialised
from gradcheck_lint.facts.repair import receiver
from gradcheck_lint.facts.resumed import begun_anew, copied_before, crossed, rate_lost, rebuilt
from gradcheck_lint.finding import Confidence, Severity
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.runtime.layers import told
from gradcheck_lint.runtime.sightings.holding import RateLost, RestoredInVain, RestoredRedrawn, StatePermuted
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
    watches = (StatePermuted, RateLost, RestoredInVain, RestoredRedrawn)

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        for begun in begun_anew(timeline):
            report(
                begun.moved.place,
                "the schedule begins anew where the training goes on",
                label=f"moves on from 0, and the epochs from `{begun.start}`",
                why="nothing gives the schedule its count back, so the rate is that of the first epochs once more",
                help=f"save the state of `{receiver(begun.moved.place)}` too, and load it",
                note=""
                if begun.sure
                else "a schedule that was laid out for what is left of the training is legitimate",
                related=[("built here", begun.built.place)],
                confidence=Confidence.HIGH if begun.sure else Confidence.MEDIUM,
            )
        for both in crossed(timeline):
            report(
                both.second.place,
                "two optimizers are given the state of one",
                label=f"takes `{both.state}`, which another optimizer has been given",
                why="the averages of one model's gradients are used for another model",
                help="load the state that was saved for this optimizer",
                related=[("given to this optimizer first", both.first.place)],
                confidence=Confidence.MEDIUM,  # the name may stand for another file by now
            )
        for event in timeline.events(LoadState):
            anew = built_anew(timeline, event)
            if anew is not None:
                report(
                    anew.built.place,
                    "an optimizer is built anew after its state was restored",
                    label=f"`{anew.built.subject.label}` begins without the state that another one was given",
                    why="the one that was restored never steps, so the momentum of the checkpoint is lost",
                    help="load the state into the optimizer that trains",
                    note="" if anew.sure else "to begin with a fresh optimizer on purpose is legitimate",
                    related=[("the state is restored here", event.place)],
                    confidence=Confidence.HIGH if anew.sure else Confidence.MEDIUM,
                )
            replaced = model_anew(timeline, event)
            if replaced is not None:
                report(
                    replaced.statement,
                    "a model is built anew after its state was loaded",
                    label="puts a fresh model in the place of the one that was given the weights",
                    why="what was loaded is lost before it is used",
                    help="build the model once, and load its state after that",
                    note="a load that only asks whether a file can be read is legitimate",
                    related=[("the state is loaded here", event.place)],
                    confidence=Confidence.MEDIUM,
                )
            self.schedules(timeline, event, report)
            early = copied_before(timeline, event)
            if early is not None:
                report(
                    early.run.place,
                    "a copy of the model was made before its state was loaded",
                    label=f"runs with the weights that `{early.copy.label}` was initialised with",
                    why="the copy has weights of its own, and what is loaded into the model never comes to them",
                    help="copy the model after its state is loaded",
                    related=[("the state is loaded here", event.place)]
                    + ([("the copy is made here", early.copy.place)] if early.copy.place is not None else []),
                    confidence=Confidence.MEDIUM,  # it may be there to be compared with
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

    def schedules(self, timeline: Timeline, event: LoadState, report: Report) -> None:
        """A schedule is built where it undoes what was restored."""
        anew = rebuilt(timeline, event)
        if anew is not None:
            report(
                anew.built.place,
                "a scheduler is built anew after its state was restored",
                label=f"`{anew.built.subject.label}` begins at 0",
                why="the one that was restored never moves, so the schedule starts from the beginning",
                help="load the state into the scheduler that is moved",
                note="" if anew.sure else "to begin with a fresh schedule on purpose is legitimate",
                related=[("the state is restored here", event.place)],
                confidence=Confidence.HIGH if anew.sure else Confidence.MEDIUM,
            )
        lost = rate_lost(timeline, event)
        if lost is not None:
            report(
                lost.built.place,
                "the restored learning rate is overwritten by a new scheduler",
                label="sets the rate to that of its beginning",
                why="loading a scheduler restores its count, and leaves the rate as it is until the next move"
                if lost.counted
                else "the state of a schedule is saved, and nothing gives this one its count back",
                help="build the scheduler before the optimizer is given its state"
                if lost.counted
                else "build the scheduler first, and load its state too",
                related=[("the rate is restored here", event.place)],
                confidence=Confidence.HIGH if lost.sure else Confidence.MEDIUM,
            )

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        if isinstance(sighting, StatePermuted):
            self.permuted(sighting, report)
        elif isinstance(sighting, RateLost):
            self.rate(sighting, report)
        elif isinstance(sighting, RestoredInVain):
            self.vain(sighting, report)
        elif isinstance(sighting, RestoredRedrawn):
            self.redrawn(sighting, report)

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
            why=f"loading a scheduler restores its count, here {sighting.epoch}, and leaves the rate as it is"
            if sighting.counted
            else "the checkpoint has the state of a schedule too, and nothing gives this one its count back",
            help=f"build the scheduler before `{name}` is given its state"
            if sighting.counted
            else "build the scheduler first, and load its state too",
            related=[("restored here", sighting.loaded)],
            confidence=Confidence.HIGH if sighting.sure else Confidence.MEDIUM,
        )

    def redrawn(self, sighting: RestoredRedrawn, report: RunReport) -> None:
        report(
            "the weights are initialised after a state was loaded",
            label=f"{sighting.at_step}: nothing of what was loaded is left in {told(sighting.names)}",
            why="what was loaded is lost before it is used",
            help="initialise the model first, and load the state last",
            note="" if sighting.sure else "to begin with fresh weights on purpose is legitimate",
            related=[("the state is loaded here", sighting.loaded)],
            confidence=Confidence.HIGH if sighting.sure else Confidence.MEDIUM,
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
