"""GL706: a softmax goes over the one output that a model has, and gives 1 whatever that is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence, Severity
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.source.events import Backward, Forward, Return, TorchCall

if TYPE_CHECKING:
    from gradcheck_lint.source.timeline import Timeline


class SoftmaxOverOneClass(Rule):
    code = "GL706"
    slug = "softmax-over-one-class"
    severity = Severity.ERROR
    needs = (Backward, Forward, Return, TorchCall)

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        from gradcheck_lint.facts import fed
        from gradcheck_lint.facts.one_class import one_class

        for feed in fed.computed(timeline):
            found = one_class(feed)
            if found is None:
                continue
            given, short = feed.written, feed.name.rpartition(".")[2]
            related = [(f"`{found.softmax}` goes over one class", found.place)] if found.place is not None else []
            if found.layer.place is not None:
                related.append(("one output is all that there is", found.layer.place))
            report(
                feed.place,
                "a softmax over one class is always 1",
                label=f"`{given}` has one output"
                + (f", and `{found.softmax}` goes over it" if found.softmax else f", and `{short}` applies a softmax"),
                why="the result does not depend on the model: the loss stays as it is, and all gradients are 0",
                help="for two classes use `BCEWithLogitsLoss` on the one output, or give the model one output for each "
                "class",
                related=related,
                confidence=Confidence.HIGH if feed.sole and found.sure else Confidence.MEDIUM,
            )
