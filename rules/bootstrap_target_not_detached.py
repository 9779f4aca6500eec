"""GL412: a target that a network makes for itself, or an advantage, carries its graph into the loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence, Fix, Safety, Severity
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.source import events as ev

if TYPE_CHECKING:
    from gradcheck_lint.source.place import Place
    from gradcheck_lint.source.timeline import Timeline


class BootstrapTargetNotDetached(Rule):
    code = "GL412"
    slug = "bootstrap-target-not-detached"
    severity = Severity.ERROR
    fix = Safety.UNSAFE
    needs = (ev.Backward,)

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        from gradcheck_lint.facts.bootstrap import remarked, undetached
        from gradcheck_lint.facts.repair import text

        self.averages(timeline, report)
        for found in undetached(timeline):
            place = found.place
            if place is None:
                continue
            sure = found.sure and not remarked(place)
            report(
                place,
                "an advantage carries the graph of the value it was computed from"
                if found.advantage
                else "a target carries the graph of the network that it is a target for",
                label="its graph goes into the loss of the policy"
                if found.advantage
                else "is part of a target, and trained as well",
                why="the value is pulled to where it makes the policy's loss small, and not to the returns"
                if found.advantage
                else "backward moves the target towards the prediction, as much as the prediction towards the target",
                help=f"compute `{text(place)}` under `torch.no_grad()`, or `.detach()` it there",
                note="" if found.advantage else "fine for residual-gradient methods, which are meant to train both",
                related=[("backward runs here", found.backward.place)],
                fix=None if found.advantage else self.mend(place),
                confidence=Confidence.HIGH if sure else Confidence.MEDIUM,
            )

    @staticmethod
    def mend(place: Place) -> Fix | None:
        """Cut the target off where it is computed, if that is one call."""
        from gradcheck_lint.facts.repair import append
        from gradcheck_lint.source import tree

        if not isinstance(place.node, (tree.Call, tree.Name, tree.Subscript)):
            return None
        return Fix("detach the target", Safety.UNSAFE, (append(place, ".detach()"),))

    def averages(self, timeline: Timeline, report: Report) -> None:
        from gradcheck_lint.facts.following import pulled
        from gradcheck_lint.facts.identity import name_of
        from gradcheck_lint.facts.query import called
        from gradcheck_lint.facts.repair import text

        for found in pulled(timeline):
            assert found.run.place is not None
            average = called([found.average])
            report(
                found.run.place,
                "a network that follows another one by an average is trained by the loss as well",
                label=f"carries the graph of {average} into the loss, and `{name_of(found.step)}` has its parameters",
                why=f"each step moves {average} to where the loss is small, and it lags behind nothing any more",
                help=f"compute `{text(found.run.place)}` under `torch.no_grad()`, and freeze {average}",
                related=[
                    ("moved by an average here", found.write.event.place),
                    ("backward runs here", found.backward.place),
                ],
            )
