"""GL702: a loss that wants probabilities, or their logarithms, is fed with something else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence, Severity
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.source.events import Backward, Forward, Return, TorchCall

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradcheck_lint.facts.fed import Computed, Ending
    from gradcheck_lint.facts.losses import Loss, Scale
    from gradcheck_lint.source.timeline import Timeline


class LogitsWhereProbabilitiesAreWanted(Rule):
    code = "GL702"
    slug = "logits-where-probabilities-are-wanted"
    severity = Severity.ERROR
    needs = (Backward, Forward, Return, TorchCall)

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        from gradcheck_lint.facts import fed
        from gradcheck_lint.facts.losses import Scale

        for feed in fed.computed(timeline):
            loss = feed.loss
            if loss is None or not loss.wants:
                continue
            if loss.name.endswith(("KLDivLoss", "kl_div")):
                self.target(feed, loss, timeline, report)
            found = fed.endings(feed.input, timeline)
            if loss.name.endswith(("NLLLoss", "nll_loss")):
                self.over_batch(feed, found, report)
            if not found or any(ending.scale in loss.wants for ending in found):
                continue
            first = found[0]
            given = feed.written
            wanted = "log-probabilities" if Scale.LOG in loss.wants else "probabilities"
            report(
                feed.place,
                f"`{loss.short}` is not fed with {wanted}",
                label=f"`{given}` comes out of `{first.name}`, which gives {first.scale.value}",
                why=self.harm(loss, first.scale),
                help=self.cure(loss, first.scale, first.name),
                related=[(f"`{e.name}` gives {e.scale.value}", e.made) for e in found if e.made is not None],
                confidence=Confidence.HIGH if feed.sole else Confidence.MEDIUM,
            )

    @staticmethod
    def over_batch(feed: Computed, found: Sequence[Ending], report: Report) -> None:
        """Tell of log-probabilities that sum to 1 over all samples of a class, not over all classes of a sample."""
        from gradcheck_lint.facts.fed import dimension
        from gradcheck_lint.facts.shapes import shape_of

        if not found or any(dimension(ending) != 0 for ending in found):
            return
        shape, first = shape_of(feed.input), found[0]
        if shape is None or len(shape) < 2:
            return  # of one sample alone, that is the dimension of the classes
        report(
            feed.place,
            "a softmax goes over the batch, and not over the classes",
            label=f"`{feed.written}` comes out of `{first.name}`, which goes over dimension 0",
            why="the samples of a batch compete with one another, and what comes out for one depends on the others",
            help="say `dim=1`, which is that of the classes",
            related=[(f"`{first.name}` is here", first.made)] if first.made is not None else [],
            confidence=Confidence.HIGH if feed.sole else Confidence.MEDIUM,
        )

    @staticmethod
    def target(feed: Computed, loss: Loss, timeline: Timeline, report: Report) -> None:
        """`kl_div` wants its target as probabilities, or as their logarithms where it is told so."""
        from gradcheck_lint.facts import fed
        from gradcheck_lint.facts.losses import PROBABILITIES, Scale
        from gradcheck_lint.facts.repair import argument
        from gradcheck_lint.source.values import Constant

        told = feed.option("log_target")
        if told is not None and not (isinstance(told, Constant) and isinstance(told.value, bool)):
            return
        logarithms = isinstance(told, Constant) and told.value is True
        found = fed.endings(feed.target, timeline)
        if not found or not all(e.scale in PROBABILITIES if logarithms else e.scale is Scale.LOG for e in found):
            return
        first, given = found[0], argument(feed.place, 1) or "the target"
        wanted = "log-probabilities" if logarithms else "probabilities"
        report(
            feed.place,
            f"the target of `{loss.short}` is not {wanted}",
            label=f"`{given}` comes out of `{first.name}`, which gives {first.scale.value}",
            why="the loss is no divergence, and becomes NaN or has no lower bound",
            help=f"say `log_target={not logarithms}`",
            related=[(f"`{e.name}` gives {e.scale.value}", e.made) for e in found if e.made is not None],
            confidence=Confidence.HIGH if feed.sole and not feed.args.open else Confidence.MEDIUM,
        )

    @staticmethod
    def harm(loss: Loss, scale: Scale) -> str:
        from gradcheck_lint.facts.losses import Scale

        if Scale.LOG not in loss.wants:
            return "torch raises an error at the first number that is not between 0 and 1"
        if scale is Scale.FREE:
            return "the loss is no likelihood: it has no lower bound, and is made smaller by making the output larger"
        return "the loss is no likelihood: a probability near 0 costs next to nothing"

    @staticmethod
    def cure(loss: Loss, scale: Scale, name: str) -> str:
        if scale.name == "FREE":
            twin = f"use `{loss.twin}`, which takes logits, or " if loss.twin else ""
            return f"{twin}apply `{loss.instead}` before the loss"
        if loss.instead == "log_softmax":
            return f"apply `log_softmax` in place of `{name}`"
        return f"apply `{loss.instead}` in place of `{name}`"
