"""GL705: a loss is given the target where it wants the prediction, and the prediction where it wants the target."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence, Severity
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.source.events import Backward, Forward, Return, TorchCall

if TYPE_CHECKING:
    from gradcheck_lint.source.timeline import Timeline


class LossArgumentsSwapped(Rule):
    code = "GL705"
    slug = "loss-arguments-swapped"
    severity = Severity.ERROR
    needs = (Backward, Forward, Return, TorchCall)

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        from gradcheck_lint.facts import fed
        from gradcheck_lint.facts.losses import ENTROPIES
        from gradcheck_lint.facts.query import trained
        from gradcheck_lint.facts.reach import reaching
        from gradcheck_lint.facts.repair import argument
        from gradcheck_lint.laws.answer import NO, YES
        from gradcheck_lint.source.layers import layer_of

        reach = reaching(timeline)
        for feed in fed.computed(timeline):
            if feed.name not in ENTROPIES or feed.input is None or feed.target is None:
                continue
            first = reach.of(feed.input)
            if first.grad is not NO or not first.certain or first.cuts or first.met:
                continue
            second = reach.of(feed.target)
            if not second.met or not (
                second.grad is YES or any(layer_of(t.core) == "Sequential" or trained(timeline, t) for t in second.met)
            ):
                continue
            target, prediction = argument(feed.place, 0), argument(feed.place, 1)
            if not target or not prediction:
                continue
            report(
                feed.place,
                f"prediction and target of `{feed.name.rpartition('.')[2]}` are exchanged",
                label=f"`{target}` is data, and stands before `{prediction}`, which comes out of a model",
                why="the loss takes the logarithm of the target and not of the prediction: it is another function, "
                "which has no lower bound or fails",
                help=f"write `{prediction}, {target}`",
                confidence=Confidence.HIGH if feed.sole else Confidence.MEDIUM,
            )
