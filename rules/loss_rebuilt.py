"""GL401: backward runs on a new tensor that has the value of the loss and none of its graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence, Severity
from gradcheck_lint.laws.cycle import EMPTY_STEP
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.runtime.sightings.reach import LossLeadsNowhere
from gradcheck_lint.source.events import Backward

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting
    from gradcheck_lint.source.breach import Breach
    from gradcheck_lint.source.timeline import Timeline

HEADLINE = "backward runs on a copy of the loss that has no graph"
HELP = (
    "call backward on the loss as the model and the criterion gave it; make no new tensor of its value, "
    "and do not set `requires_grad` on it"
)


class LossRebuilt(Rule):
    code = "GL401"
    slug = "loss-rebuilt"
    severity = Severity.ERROR
    witnesses = frozenset({"source", "run"})
    breaches = frozenset({EMPTY_STEP})
    needs = (Backward,)
    watches = (LossLeadsNowhere,)

    def on_breach(self, breach: Breach, report: Report) -> None:
        from gradcheck_lint.facts import rebuilt
        from gradcheck_lint.facts.repair import text
        from gradcheck_lint.facts.turns import trained

        found = rebuilt.before(breach)
        if found is None or not trained(breach):
            return
        assert found.leaf.place is not None
        report(
            found.leaf.place,
            HEADLINE,
            label="has the value of a loss, and leads back to no parameter",
            why=f"`{text(found.backward.place)}` raises nothing and fills no gradient that an optimizer reads, "
            "so nothing is learned",
            help=HELP,
            related=[("backward runs on it here", found.backward.place), ("steps here", breach.event.place)],
            confidence=Confidence.HIGH if breach.certain else Confidence.MEDIUM,
        )

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        from gradcheck_lint.facts import rebuilt, refused, unfed
        from gradcheck_lint.facts.identity import name_of
        from gradcheck_lint.facts.repair import text

        for place, backward, certain in [
            *((found.event.place, found.backward, found.certain) for found in refused.freed(timeline)),
            *((found.place, found.backward, found.certain) for found in rebuilt.from_values(timeline)),
        ]:
            report(
                place,
                HEADLINE,
                label="has the value of a loss, and leads back to no parameter",
                why=f"`{text(backward.place)}` raises nothing and fills no gradient that an optimizer reads, so "
                "nothing is learned",
                help=HELP,
                related=[("backward runs on it here", backward.place)],
                confidence=Confidence.HIGH if certain else Confidence.MEDIUM,
            )

        for lone in unfed.unfed(timeline):
            assert lone.leaf.place is not None
            report(
                lone.leaf.place,
                HEADLINE,
                label="is a new leaf: it has values that a network gave, and leads back to no parameter",
                why=f"`{name_of(lone.step)}.step()` finds no gradient, so nothing is learned",
                help="keep the tensors themselves, and put them together by `torch.stack`",
                related=[("backward comes to it here", lone.backward.place), ("steps here", lone.step.place)],
            )

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        assert isinstance(sighting, LossLeadsNowhere)
        backward = sighting.source("loss.backward()")
        name = f"`{sighting.names[0]}`" if sighting.names else "this tensor"
        begins = "adds up numbers that lead" if sighting.summed else "leads"
        made = sighting.made
        report(
            HEADLINE,
            site=made,
            label=f"{sighting.at_step}: {name} {begins} back to no parameter",
            why=f"`{backward}` raises nothing and fills no gradient that an optimizer reads, so nothing is learned",
            help=HELP,
            related=[("backward runs on it here", sighting.site)] if made is not None else [],
            confidence=Confidence.HIGH if sighting.sure else Confidence.MEDIUM,
        )
