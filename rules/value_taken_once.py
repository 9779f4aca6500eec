"""GL214: a number is computed from a trained parameter once, and used as if it followed the parameter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence, Severity
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.runtime.sightings.reach import TakenOnce
from gradcheck_lint.source import events as ev

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting
    from gradcheck_lint.source.timeline import Timeline


class ValueTakenOnce(Rule):
    code = "GL214"
    slug = "value-taken-once"
    severity = Severity.ERROR
    witnesses = frozenset({"source", "run"})
    needs = (ev.Backward,)
    watches = (TakenOnce,)

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        from gradcheck_lint.facts.taken_once import taken_once

        for found in taken_once(timeline):
            parameter = found.parameter.label or "a parameter"
            related = [("the loss that is made with it goes backward here", found.backward.place)]
            if found.optimizer.place is not None:
                related.append((f"this optimizer trains `{parameter}`", found.optimizer.place))
            report(
                found.event.place,
                f"`{found.name}` stays what `{parameter}` was before it was trained",
                label=f"is computed from `{parameter}` once, and cut off from it",
                why=f"what `{parameter}` learns has no effect where `{found.name}` is used",
                help=f"compute `{found.name}` anew after each step, or where it is used",
                related=related,
                confidence=Confidence.HIGH if found.sure else Confidence.MEDIUM,
            )

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        assert isinstance(sighting, TakenOnce)
        (parameter,) = sighting.names
        report(
            f"`{sighting.value}` stays what `{parameter}` was before it was trained",
            label=f"is computed from `{parameter}` once, and cut off from it",
            why=f"what `{parameter}` learns has no effect where `{sighting.value}` is used",
            help=f"compute `{sighting.value}` anew after each step, or where it is used",
            related=[("it is trained here", sighting.stepped)],
        )
