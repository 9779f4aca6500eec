"""GL701: a loss that applies a softmax or a sigmoid of its own is fed with what has been through one already."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence, Fix, Safety, Severity
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.source.events import Backward, Forward, Return, TorchCall

if TYPE_CHECKING:
    from gradcheck_lint.facts.fed import Computed, Ending
    from gradcheck_lint.source.timeline import Timeline


class SoftmaxBeforeCrossEntropy(Rule):
    code = "GL701"
    slug = "softmax-before-cross-entropy"
    severity = Severity.ERROR
    fix = Safety.SAFE
    triggers = r"\bdef training_step\("
    needs = (Backward, Forward, Return, TorchCall)

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        from gradcheck_lint.facts import fed
        from gradcheck_lint.facts.losses import PROBABILITIES, SOFTMAXES, Scale

        for feed in fed.computed(timeline):
            loss = feed.loss
            if loss is None or not loss.squashes:
                continue
            found = fed.endings(feed.input, timeline)
            if not found or any(ending.scale not in PROBABILITIES for ending in found):
                continue
            if feed.name in SOFTMAXES and any(ending.scale is not Scale.SHARES for ending in found):
                continue  # scores between 0 and 1 are made to sum to 1
            first = found[0]
            given = feed.written
            own = loss.squashes
            again = "a second time" if own in first.name.lower() else "on top of it"
            report(
                feed.place,
                "a softmax is applied twice"
                if feed.name in SOFTMAXES
                else f"`{loss.short}` is fed with probabilities, and wants logits",
                label=f"`{given}` comes out of `{first.name}`, and `{loss.short}` applies a {own} {again}",
                why="probabilities lie between 0 and 1, so what is made of them is never sure, the loss is never "
                "near 0 and its gradients are small: the model learns slowly, and to a worse result",
                help=f"leave out the `{first.name}` on the way to `{loss.short}`, and apply it only where "
                "probabilities are read",
                related=[(f"`{e.name}` gives probabilities", e.made) for e in found if e.made is not None],
                fix=self.mend(feed, first) if len(found) == 1 else None,
                confidence=Confidence.HIGH if feed.sole else Confidence.MEDIUM,
            )

    def mend(self, feed: Computed, ending: Ending) -> Fix | None:
        """Hand over what the softmax is given, where it is called on the spot."""
        from gradcheck_lint.facts.repair import replace, text
        from gradcheck_lint.source import tree
        from gradcheck_lint.source.place import Place

        call, inner = feed.place.node, ending.place.node if ending.place is not None else None
        if not isinstance(call, tree.Call) or not isinstance(inner, tree.Call) or ending.layer is not None:
            return None
        if not any(argument.value is inner for argument in call.args) or not inner.args or inner.args[0].keyword:
            return None
        if not isinstance(inner.func, tree.Attribute) or not text(Place(feed.place.chunk, inner.func)).startswith(
            ("F.", "nn.functional.", "torch.")
        ):
            return None
        given = Place(feed.place.chunk, inner.args[0].value)
        return Fix(f"leave out the `{ending.name}`", Safety.SAFE, (replace(Place(given.chunk, inner), text(given)),))
