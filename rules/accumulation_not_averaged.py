"""GL111: gradients of k micro-batches are summed where their mean is meant, or the last group is never used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.facts import query
from gradcheck_lint.facts.late import divided_late
from gradcheck_lint.facts.micro_batches import Nested, nested_windows
from gradcheck_lint.facts.window import Window, windows
from gradcheck_lint.finding import Confidence, Severity
from gradcheck_lint.laws.answer import NO
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.runtime.sightings.order import Discarded, WindowSpills
from gradcheck_lint.source import events as ev
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source import tree
from gradcheck_lint.source.holding import reaches
from gradcheck_lint.source.natures import LossScaled, Module, nature
from gradcheck_lint.source.values import Thing, Value, only

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting

    Located = Sequence[tuple[ev.Event, tuple[tl.Part, ...]]]

SCALED_BY_GRADIENT = frozenset({"SGD", "ASGD"})
"""Optimizers whose step is proportional to the gradient; the others divide by its size."""


class AccumulationNotAveraged(Rule):
    code = "GL111"
    slug = "accumulation-not-averaged"
    severity = Severity.WARNING
    witnesses = frozenset({"source", "run"})
    needs = (ev.Backward,)
    watches = (Discarded, WindowSpills)

    def on_timeline(self, timeline: tl.Timeline, report: Report) -> None:
        late = {id(found.made) for found in divided_late(timeline)}  # GL121
        for window in windows(timeline):
            if not window.closes:
                continue  # nothing is accumulated
            if id(window.backward) not in late:
                self.summed(window, report)
            self.lost(timeline, window, report)
        for nested in nested_windows(timeline):
            if id(nested.backward) not in late and nested.undivided:
                self.pieces(nested, report)

    def summed(self, window: Window, report: Report) -> None:
        """The losses are means, and nothing divides their sum."""
        if not _sums(window) or any(
            isinstance(n, tree.Attribute) and n.attr == "grad" for n in window.loop.node.walk()
        ):
            return
        spoken = window.spoken
        report(
            window.backward.place,
            "the losses of an accumulation window are summed, not averaged",
            label=f"adds the gradient of one of {spoken} losses, each a mean",
            why=f"the step is {spoken} times as long as the learning rate says",
            help=f"divide the loss by `{spoken}` before backward",
            note="a learning rate that was chosen for the sum is legitimate",
            related=[("the window closes here", window.step.place)],
            confidence=Confidence.HIGH if window.named else Confidence.MEDIUM,
        )

    def pieces(self, window: Nested, report: Report) -> None:
        """The same in a loop of its own, over the pieces of a batch."""
        if not _sums(window):
            return
        spoken, whole = window.spoken, window.head.pieces
        many = f"{spoken} losses" if spoken else "several losses"
        report(
            window.backward.place,
            "the losses of an accumulation window are summed, not averaged",
            label=f"adds the gradient of one of {many}, each a mean{' over a piece of the batch' if whole else ''}",
            why=f"the step is {spoken} times as long as the learning rate says"
            if spoken
            else "the step is longer than the learning rate says, by the number of pieces",
            help=f"divide the loss by `{spoken}` before backward"
            if spoken
            else "multiply the loss by the share that the piece has in the batch before backward",
            note="a learning rate that was chosen for the sum is legitimate",
            related=[("the window closes here", window.step.place)],
            confidence=Confidence.HIGH if window.named or window.head.certain else Confidence.MEDIUM,
        )

    def lost(self, timeline: tl.Timeline, window: Window, report: Report) -> None:
        """The counter starts again with each epoch, and so do the gradients."""
        located = list(timeline.located())
        around = next(a for e, a in located if e is window.step)
        turns = [s for s in query.loops(around) if isinstance(s.node, (tree.For, tree.While))]
        if len(turns) < 2 or not _whole(window):
            return
        outer = turns[-2]
        position = next(n for n, (e, _) in enumerate(located) if e is window.inner[0][0])
        before = [e for e, a in located[:position] if outer in a and query.always(query.inside(a, outer)[:1])]
        after = [e for e, a in located[position:] if window.loop not in a and (outer in a or isinstance(e, ev.Step))]
        if any(isinstance(e, (ev.Step, ev.Unknown)) for e in after):
            return
        cleared = any(isinstance(e, ev.Zero) and reaches(e.subject, window.optimizer) is not NO for e in before)
        count, k = window.loop.length, window.size
        rounds = count.number if count is not None else None
        if k and rounds is not None and rounds % k == 0:
            return
        if rounds is None and window.loop.listed:
            return  # the program makes as many batches as it wants
        known = k is not None and rounds is not None
        if not cleared:
            if (
                known
                and _restarts(window, outer)
                and not any(isinstance(e, (ev.Zero, ev.Unknown)) for e in (*before, *after))
            ):
                self.leaks(window, report)
            return
        report(
            window.step.place,
            "the last micro-batches of an epoch never reach a step",
            label=f"is taken after {window.text(window.test.size)} micro-batches, and not for what is left over",
            why="the gradients of the last, shorter group are cleared unused at the head of the next epoch",
            help="step on the last micro-batch as well",
            confidence=Confidence.HIGH if known else Confidence.MEDIUM,
        )

    def leaks(self, window: Window, report: Report) -> None:
        """What is left over at the end of an epoch goes into the first step of the next one."""
        size = window.spoken
        report(
            window.step.place,
            "the last micro-batches of an epoch leak into the next one",
            label=f"is taken after {size} micro-batches, and what is left over waits for the next epoch",
            why=f"the first step of that one uses more than {size} micro-batches, some of them of older weights",
            help="step on the last micro-batch as well",
        )

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        if isinstance(sighting, WindowSpills):
            name = sighting.optimizer.label if sighting.optimizer else "optimizer"
            over = sighting.window - sighting.usual
            report(
                "the last micro-batches of an epoch leak into the next one",
                label=f"{sighting.at_step}: uses {sighting.window} backwards, as after each {sighting.every} steps, "
                f"and the others {sighting.usual}",
                why=f"the last {over} backwards of a loop are added to the first {sighting.usual} of the next one",
                help=f"call `{name}.step()` after the last batch as well, or clear what is left",
                related=[("made here", sighting.made)],
            )
            return
        assert isinstance(sighting, Discarded)
        window, usual = sighting.window, sighting.usual
        if not 0 < window < usual or not sighting.finite:
            return  # nothing that was accumulated, or a batch that is skipped for good reason
        name = sighting.optimizer.label if sighting.optimizer else "optimizer"
        some = "that of 1 backward was" if window == 1 else f"those of {window} backwards were"
        report(
            "the last accumulation window of the loop is never used",
            label=f"after step {sighting.step} of {name}: {some} cleared here, and each step uses {usual}",
            why="in each epoch the last batches are computed for nothing",
            help=f"call `{name}.step()` after the loop as well, or let its length be a multiple of {usual}",
            related=[("made here", sighting.made), ("the step", sighting.stepped)],
            confidence=Confidence.HIGH if sighting.regular else Confidence.MEDIUM,
        )


def _fixed_rate(optimizer: Thing) -> bool:
    """Whether the learning rate is not itself computed, and so may carry the division."""
    node = optimizer.place.node if optimizer.place is not None else None
    if not isinstance(node, tree.Call):
        return False
    rate = next((a.value for a in node.args if a.keyword == "lr"), None)
    rate = node.args[1].value if rate is None and len(node.args) > 1 and not node.args[1].keyword else rate
    return rate is None or isinstance(rate, (tree.Constant, tree.Name, tree.Attribute))


def _sums(window: Window | Nested) -> bool:
    """Whether a sum of means makes its steps longer."""
    scaled = query.torch_class(window.optimizer) in SCALED_BY_GRADIENT and _fixed_rate(window.optimizer)
    return scaled and _mean(window)


def _mean(window: Window | Nested) -> bool:
    """Whether backward runs on what a loss of torch gives, which is a mean unless told otherwise."""
    loss: Value | None = only(window.backward.subject)
    scaled = nature(loss, LossScaled)
    if scaled is not None and scaled.of is not None:
        loss = scaled.of
    if not isinstance(loss, Thing) or loss.place is None:
        return False
    for event, _ in window.inner:
        if event.place != loss.place:
            continue
        if isinstance(event, ev.TorchCall):
            name, args = event.name, event.args
            return name.startswith("torch.nn.functional.") and _loss(name) and "reduction" not in args.keywords
        module = only(event.subject, Module) if isinstance(event, ev.Forward) else None
        if module is not None:
            made = module.args
            return _loss(query.torch_class(module)) and made is not None and _default(made.keywords)
    return False


def _default(keywords: Mapping[str, object]) -> bool:
    return not {"reduction", "size_average", "reduce", "**"} & set(keywords)


def _loss(name: str) -> bool:
    return name.endswith(("Loss", "_loss", "cross_entropy", "cross_entropy_with_logits", "_with_logits", "kl_div"))


def _whole(window: Window) -> bool:
    """Whether the test knows nothing of the end of the loop."""
    whole = window.test.whole
    return not (isinstance(whole, tree.Operation) and whole.op in ("or", "and")) and isinstance(
        window.loop.node, tree.For
    )


def _restarts(window: Window, outer: tl.Loop) -> bool:
    """Whether the test counts the rounds of this loop only."""
    node = window.loop.node
    if window.test.kept:
        name = tree.dotted(window.test.counter)
        here = [n for n in outer.node.walk() if isinstance(n, tree.Assign) and name in map(tree.dotted, n.targets)]
        inner = {id(n) for n in node.walk()}
        return any(id(n) not in inner for n in here)
    names = {n.id for n in node.target.walk() if isinstance(n, tree.Name)} if isinstance(node, tree.For) else set()
    return any(isinstance(n, tree.Name) and n.id in names for n in window.test.counter.walk())
