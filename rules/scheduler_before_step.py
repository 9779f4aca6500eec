"""GL110: the learning-rate schedule moves on before the optimizer has made its first step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence, Fix, Safety, Severity
from gradcheck_lint.laws.cycle import EARLY_SCHEDULE
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.runtime.sightings.order import EarlySchedule

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting
    from gradcheck_lint.source.breach import Breach
    from gradcheck_lint.source.timeline import Loop


class SchedulerBeforeStep(Rule):
    code = "GL110"
    slug = "scheduler-before-step"
    severity = Severity.WARNING
    fix = Safety.UNSAFE
    witnesses = frozenset({"source", "run"})
    breaches = frozenset({EARLY_SCHEDULE})
    watches = (EarlySchedule,)

    def on_breach(self, breach: Breach, report: Report) -> None:
        from gradcheck_lint.facts.repair import text
        from gradcheck_lint.facts.turns import first_round

        loop = first_round(breach)
        if loop is None or breach.schedule.args.all():
            return  # winds the schedule forward, skips the first round, or names the epoch itself
        call = text(breach.event.place)
        report(
            breach.event.place,
            "the schedule moves before the first step of the optimizer",
            label="runs ahead of the optimizer's step in each round of the loop",
            why="the first learning rate of the schedule is never used, and all others come one call early",
            help=f"move `{call}` to the end of the loop, after the step of `{breach.optimizer.label}`",
            fix=self.mend(breach, loop),
            confidence=Confidence.HIGH if breach.certain else Confidence.MEDIUM,
        )

    def mend(self, breach: Breach, loop: Loop) -> Fix | None:
        """Move the call to the end of the body that it stands in, if each round gets there."""
        from gradcheck_lint.facts.repair import end_of_block, move_after
        from gradcheck_lint.facts.turns import alone, jumps

        here = alone(breach.event)
        if here is None or jumps(loop) or not breach.certain:
            return None
        last = end_of_block(breach.event.statement)
        if last is None or last.position <= here.position:
            return None
        title = "move the schedule to the end of the loop"
        return Fix(title, Safety.UNSAFE, move_after(here, last))

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        assert isinstance(sighting, EarlySchedule)
        name = sighting.optimizer.label if sighting.optimizer else "the optimizer"
        call = sighting.source("scheduler.step()")
        report(
            "the schedule moves before the first step of the optimizer",
            label=f"ran before the first step of {name}, and again after step {sighting.step}",
            why="the first learning rate of the schedule is never used, and all others come one call early",
            help=f"move `{call}` to the end of the loop, after the step of `{name}`",
            related=[("the step", sighting.stepped)],
        )
