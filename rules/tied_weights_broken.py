"""GL209: what was one parameter in two places of a model is two parameters after a conversion or a load."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.facts.ties import BREAKING, untied
from gradcheck_lint.finding import Severity
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.runtime.layers import told
from gradcheck_lint.runtime.sightings.holding import TieBroken
from gradcheck_lint.source.events import SetAttribute

if TYPE_CHECKING:
    from gradcheck_lint.facts.ties import Tie
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting
    from gradcheck_lint.source.timeline import Timeline


class TiedWeightsBroken(Rule):
    code = "GL209"
    slug = "tied-weights-broken"
    severity = Severity.ERROR
    witnesses = frozenset({"source", "run"})
    needs = BREAKING
    watches = (TieBroken,)
    triggers = r"\.weight *= *(?:\w+\.)*Parameter\(|to_empty\(|\bassign *= *True"

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        told: set[Tie] = set()
        for event in timeline.events(*BREAKING):
            found = untied(timeline, event)
            if found is None or found.tie in told:
                continue
            told.add(found.tie)
            report(
                event.statement if isinstance(event, SetAttribute) else event.place,
                "tied weights have become separate parameters",
                label=f"`{found.tie.one}` and `{found.tie.other}` were one parameter, and are two from here on",
                why="each is trained by its own gradient and they drift apart, or one of them is not trained at all",
                help="tie them again after this line, before the optimizer is built",
                related=[("steps here", found.step.place)],
            )

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        assert isinstance(sighting, TieBroken)
        what, held = told(sighting.names), sighting.held
        name = sighting.optimizer.label if sighting.optimizer else "optimizer"
        report(
            "tied weights have become separate parameters",
            site=sighting.made,
            label=f"{sighting.at_step}: {what} were one parameter before this, and are {len(sighting.names)}",
            why="each is trained by its own gradient and they drift apart"
            if held > 1
            else f"`{name}` moves one of them, and the others stay as they are",
            help="tie them again after this line, before the optimizer is built",
            related=[("the optimizer was built here", sighting.built), ("steps here", sighting.site)],
            subject=what,
        )
