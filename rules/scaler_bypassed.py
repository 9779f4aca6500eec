"""GL109: there is a gradient scaler, and a part of its cycle goes past it or runs twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence, Fix, Safety, Severity
from gradcheck_lint.laws.cycle import NOTHING_NEW, PLAIN, PLAIN_SCALER_STEP, SCALED_STEP, UNSCALED_TWICE
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.runtime.call import Call
from gradcheck_lint.runtime.sighting import written
from gradcheck_lint.runtime.sightings.order import PlainScalerStep, ScaledStep, ScalerRefused, UnscaledTwice
from gradcheck_lint.source.events import Backward, Step, Update

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.record import Site
    from gradcheck_lint.runtime.sighting import Sighting
    from gradcheck_lint.source.breach import Breach
    from gradcheck_lint.source.events import Event
    from gradcheck_lint.source.timeline import Timeline


class ScalerBypassed(Rule):
    code = "GL109"
    slug = "scaler-bypassed"
    severity = Severity.ERROR
    fix = Safety.SAFE
    witnesses = frozenset({"source", "run"})
    needs = (Step, Update)
    breaches = frozenset({SCALED_STEP, PLAIN_SCALER_STEP, UNSCALED_TWICE})
    watches = (ScaledStep, PlainScalerStep, UnscaledTwice, ScalerRefused)

    def on_breach(self, breach: Breach, report: Report) -> None:
        from gradcheck_lint.facts.repair import text
        from gradcheck_lint.facts.scaling import at_start, scaling
        from gradcheck_lint.facts.turns import optimizer_of

        confidence = Confidence.HIGH if breach.certain else Confidence.MEDIUM
        call = text(breach.event.place)
        if breach.kind == SCALED_STEP:
            scaler = scaling(breach.made)
            name = scaler.label if scaler is not None else "scaler"
            report(
                breach.event.place,
                "the step goes past the gradient scaler",
                label="applies gradients that are multiplied by the loss scale",
                why=f"the update is as many times too large as the scale{at_start(scaler)}",
                help=f"call `{name}.step({optimizer_of(breach.step)})` of the scaler that scaled the loss",
                related=[("scaled here", made.place) for made in breach.made],
                fix=self.mend_step(breach) if breach.certain else None,
                confidence=confidence,
            )
        elif breach.kind == UNSCALED_TWICE:
            report(
                breach.event.place,
                "gradients are unscaled twice",
                label="divides by the loss scale a second time",
                why="the scaler raises a RuntimeError, unless it is switched off",
                help=f"drop one of the two `{call}`",
                confidence=confidence,
            )
        for made in breach.made if breach.kind == PLAIN_SCALER_STEP else ():
            report(
                made.place,
                "the loss is not scaled, but the step is the gradient scaler's",
                label="makes gradients that are not multiplied by the loss scale",
                why=f"`{call}` divides them by the scale, and nothing is left of them",
                help=f"scale the loss before `{text(made.place)}`",
                related=[("divides by the scale", breach.event.place)],
                fix=self.mend_backward(breach, made) if breach.certain else None,
                confidence=confidence,
            )

    def mend_step(self, breach: Breach) -> Fix | None:
        """Let the scaler step, where its update follows."""
        from gradcheck_lint.facts.repair import receiver, replace
        from gradcheck_lint.facts.turns import own_step
        from gradcheck_lint.source import tree

        step, call = breach.step, breach.step.place.node
        events = list(breach.timeline.events(Step, Update))
        after = events[next(n for n, event in enumerate(events) if event is step) :]
        update = next((e for e in after if isinstance(e, Update) and e.function is step.function), None)
        if update is None or not own_step(step) or (isinstance(call, tree.Call) and call.args):
            return None
        new = f"{receiver(update.place)}.step({receiver(step.place)})"
        return Fix(f"call `{new}`", Safety.SAFE, (replace(step.place, new),))

    def mend_backward(self, breach: Breach, made: Event) -> Fix | None:
        """Scale the loss, where the step is the scaler's."""
        from gradcheck_lint.facts.repair import receiver, replace, text
        from gradcheck_lint.source import tree
        from gradcheck_lint.source.place import Place

        call = made.place.node
        if not isinstance(call, tree.Call) or not isinstance(call.func, tree.Attribute):
            return None
        if made.function is not breach.event.function or not isinstance(made, Backward) or made.engine:
            return None
        loss = Place(made.place.chunk, call.func.value)
        scaled = f"{receiver(breach.event.place)}.scale({text(loss)})"
        return Fix(f"scale the loss: `{scaled}`", Safety.SAFE, (replace(loss, scaled),))

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        from gradcheck_lint.facts.repair import receiver
        from gradcheck_lint.facts.scaling import plain_in_one_arm, updates_in_open_windows, updates_skipped
        from gradcheck_lint.facts.turns import steps_never_updated, updates_run_twice

        for made, used in plain_in_one_arm(timeline):
            self.sometimes_plain(made, used, report)
        for update, taken in updates_in_open_windows(timeline):
            report(
                update.place,
                "the gradient scaler is updated where it has not stepped",
                label="runs for each micro-batch",
                why="the scaler raises an AssertionError where no step has come before",
                help=f"call `{receiver(update.place)}.update()` where the accumulation window closes",
                related=[("steps here, for some micro-batches", taken.place)],
            )
        for update, unscaled in updates_skipped(timeline):
            report(
                update.place,
                "the gradient scaler is not updated when a step is skipped",
                label="does not run when gradients are not finite",
                why="the scale is never lowered, and the next `unscale_()` raises a RuntimeError",
                help=f"call `{receiver(update.place)}.update()` in each iteration: the scaler skips such steps",
                related=[("unscaled here in each iteration", unscaled.place)],
            )
        for step in steps_never_updated(timeline):
            report(
                step.place,
                "the gradient scaler steps in a loop that never updates it",
                label="no `update()` follows in this loop",
                why="the scale never adapts, and the second step raises a RuntimeError",
                help=f"call `{receiver(step.place)}.update()` once after the last step of each iteration",
            )
        for again in updates_run_twice(timeline):
            report(
                again.place,
                "the gradient scaler is updated twice",
                label="no step has run since the update before",
                why="the scaler raises an AssertionError, unless it is switched off",
                help=f"call `{receiver(again.place)}.update()` once, after the last step of the iteration",
            )

    def sometimes_plain(self, made: Event, step: Event, report: Report) -> None:
        """A backward is not scaled on some paths, and the scaler steps on all."""
        from gradcheck_lint.facts.repair import text

        report(
            made.place,
            "the loss is not scaled, but the step is the gradient scaler's",
            label="makes gradients that are not multiplied by the loss scale",
            why=f"`{text(step.place)}` divides them by the scale, and nothing is left of them",
            help=f"scale the loss before `{text(made.place)}`",
            related=[("divides by the scale", step.place)],
        )

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        name = sighting.optimizer.label if sighting.optimizer else "optimizer"
        call = sighting.source("the call")
        if isinstance(sighting, ScaledStep):
            if not sighting.untouched:
                return  # divided by the scale by hand
            self.past(sighting, name, report)
        elif isinstance(sighting, UnscaledTwice):
            report(
                "gradients are unscaled twice",
                label=f"after step {sighting.step} of {name}: they had been divided by the loss scale already",
                why="the scaler raises a RuntimeError, unless it is switched off",
                help=f"drop one of the two `{call}`",
                related=[("unscaled here before", sighting.before)],
            )
        elif isinstance(sighting, PlainScalerStep):
            if sighting.gradient not in NOTHING_NEW:  # else GL104
                self.plain(sighting, sighting.made, report)
        elif isinstance(sighting, ScalerRefused):
            self.refused(sighting, report)

    def plain(self, sighting: Sighting, made: Site | None, report: RunReport) -> None:
        report(
            "the loss is not scaled, but the step is the gradient scaler's",
            site=made or sighting.backward,
            label=f"{sighting.at_step}: these gradients were not multiplied by the loss scale",
            why=f"`{sighting.source('the call')}` divides them by the scale, and nothing is left of them",
            help=f"scale the loss before `{written(made, 'loss.backward()')}`",
            related=[("divides by the scale", sighting.site)],
        )

    def refused(self, sighting: ScalerRefused, report: RunReport) -> None:
        name = sighting.optimizer.label if sighting.optimizer else "optimizer"
        if sighting.call is Call.SCALER_STEP and sighting.scale == PLAIN:
            if sighting.gradient not in NOTHING_NEW:  # else GL104
                self.plain(sighting, sighting.backward, report)
        elif sighting.call is Call.SCALER_STEP:
            report(
                "the gradient scaler steps in a loop that never updates it",
                label=f"after step {sighting.step} of {name}: `update()` had not run since",
                why="the scale never adapts, and the second step raises a RuntimeError",
                help="call the scaler's `update()` once after the last step of each iteration",
            )
        elif sighting.call is Call.SCALER_UPDATE and sighting.bypassed:
            self.past(sighting, sighting.bypassed[0], report)
        elif sighting.call is Call.SCALER_UPDATE and sighting.updated:
            report(
                "the gradient scaler is updated twice",
                label=f"after step {sighting.step} of {name}: no step had run since the update before",
                why="the scaler raises an AssertionError, unless it is switched off",
                help="call `update()` once, after the last step of the iteration",
            )

    def past(self, sighting: Sighting, name: str, report: RunReport) -> None:
        report(
            "the step goes past the gradient scaler",
            site=sighting.stepped,
            label=f"{sighting.at_step}: its gradients were still multiplied by the loss scale",
            why="the update is as many times too large as the scale",
            help=f"call `{_spoken(written(sighting.backward, ''))}.step({name})` of the scaler that scaled the loss",
            related=[("scaled here", sighting.backward)],
        )


def _spoken(backward: str) -> str:
    """What the code calls a scaler, by the line of a backward: `scaler.scale(loss).backward()`."""
    name, scales, _ = backward.partition(".scale(")
    return name if scales and name.replace(".", "").replace("_", "").isalnum() else "scaler"
