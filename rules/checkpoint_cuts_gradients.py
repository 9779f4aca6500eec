"""GL414: a reentrant checkpoint is given nothing that requires grad, so that what is inside of it gets no gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence, Severity
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.runtime.sightings.reach import Cutting, NeverAGradient
from gradcheck_lint.source.events import Backward

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting
    from gradcheck_lint.source.timeline import Timeline


class CheckpointCutsGradients(Rule):
    code = "GL414"
    slug = "checkpoint-cuts-gradients"
    severity = Severity.ERROR
    witnesses = frozenset({"source", "run"})
    needs = (Backward,)
    watches = (NeverAGradient,)

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        from gradcheck_lint.facts.checkpointed import severed
        from gradcheck_lint.facts.query import called

        for found in severed(timeline):
            assert found.call.place is not None
            report(
                found.call.place,
                "a reentrant checkpoint is given no input that requires grad",
                label=f"its input comes of {called(found.behind)}, which is frozen"
                if found.behind
                else "none of its inputs has a graph",
                why="backward comes to what is inside through the inputs alone, so its parameters get no gradient",
                help="say `use_reentrant=False`" + ("" if found.said else ", which is not the default"),
                note="`requires_grad_()` on the input lets the gradient through as well",
                related=[("backward runs here", found.backward.place)],
                confidence=Confidence.HIGH if found.sure else Confidence.MEDIUM,
            )

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        assert isinstance(sighting, NeverAGradient)
        from gradcheck_lint.runtime.layers import told

        if sighting.branch or sighting.cutting is not Cutting.CHECKPOINT:
            return
        one = len(sighting.names) == 1
        report(
            "a reentrant checkpoint is given no input that requires grad",
            site=sighting.cut,
            label=f"cuts off {told(sighting.names)}",
            why="backward comes to what is inside through the inputs alone, so "
            f"{'its parameter gets' if one else 'its parameters get'} no gradient",
            help="pass `use_reentrant=False`, or let the input of the checkpoint require grad",
            related=[("the optimizer is built here", sighting.built)],
            subject=sighting.prefix,
        )
