"""GL117: inside a window of gradient accumulation the gradients are zeroed, clipped, or used too early."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.facts import query, repair
from gradcheck_lint.facts.micro_batches import Nested, cleared_within, nested_windows
from gradcheck_lint.facts.spread import Accelerated
from gradcheck_lint.facts.turns import measures
from gradcheck_lint.facts.window import Window, counted_from_zero, counted_once, windows
from gradcheck_lint.finding import Confidence, Fix, Safety, Severity
from gradcheck_lint.laws.answer import YES
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.runtime.sighting import written
from gradcheck_lint.runtime.sightings.order import WindowCleared, WindowClipped, WindowEarly
from gradcheck_lint.source import events as ev
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source import tree
from gradcheck_lint.source.holding import reaches
from gradcheck_lint.source.place import Place

if TYPE_CHECKING:
    from gradcheck_lint.finding import Edit
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting


class AccumulationWindowBroken(Rule):
    code = "GL117"
    slug = "accumulation-window-broken"
    severity = Severity.ERROR
    fix = Safety.UNSAFE
    witnesses = frozenset({"source", "run"})
    needs = (ev.Backward,)
    watches = (WindowCleared, WindowEarly, WindowClipped)

    def on_timeline(self, timeline: tl.Timeline, report: Report) -> None:
        for window in windows(timeline):
            confidence = Confidence.HIGH if window.named or window.divided else Confidence.MEDIUM
            each = [e for e, a in window.zeros(YES) if window.each(e, a) and not _between(window, e)]
            each += [e for e, a in window.zeros(YES) if window.stays_open(a)]
            if each:
                self.zeroed(window, each[0], confidence, report)
                continue
            if not window.closes:
                continue
            if _is_zero(window.test.rest) and counted_from_zero(window):
                self.early(window, confidence, report)
            at = next(a for e, a in window.inner if e is window.step)
            for event, around in window.inner:
                inner = query.inside(around, window.loop)
                if isinstance(event, ev.Clip) and window.each(event, inner) and not query.exclusive(around, at):
                    self.clipped(window, event, confidence, report)
            if window.aside:
                self.beside(window, report)
        for nested in nested_windows(timeline):
            for event, around in nested.inner:
                if isinstance(event, ev.Clip) and query.always(query.inside(around, nested.loop)):
                    if nested.named or nested.head.certain:
                        self.clipped(nested, event, Confidence.HIGH, report)
        for nested, zero in cleared_within(timeline):
            self.zeroed(nested, zero, Confidence.HIGH, report)
        for window in counted_once(timeline):
            self.kept(window, report)
        if timeline.has(ev.Prepare) and timeline.has(ev.Clip):
            for clip, several in Accelerated(timeline).clipped_each():
                self.clipped_early(clip, report, certain=several)

    def zeroed(self, window: Window | Nested, zero: ev.Zero, confidence: Confidence, report: Report) -> None:
        again = isinstance(window, Window) and any(window.gate.shuts(e, a) for e, a in window.zeros(YES))
        call = repair.text(zero.place)
        report(
            zero.place,
            "gradients are cleared inside the accumulation window",
            label="clears what the earlier micro-batches have computed",
            why="each step sees only the last micro-batch, and the others are computed for nothing",
            help=f"call `{call}` after `{query.spoken(window.step)}.step()` only",
            related=[("the window closes here", window.step.place)],
            fix=None if isinstance(window, Nested) else _moved(zero, window.step, before=False, drop=again),
            confidence=confidence,
        )

    def early(self, window: Window, confidence: Confidence, report: Report) -> None:
        counter = Place(window.branch.place.chunk, window.test.counter)
        name = window.text(window.test.counter)
        size = window.text(window.test.size)
        report(
            Place(window.branch.place.chunk, window.test.whole),
            "the accumulation window closes on its first micro-batch",
            label=f"is true when `{name}` is 0",
            why="the first step uses one micro-batch, and the last ones of the loop are left over",
            help=f"test `({name} + 1) % {size} == 0`",
            fix=Fix("count from one", Safety.UNSAFE, (repair.replace(counter, f"({name} + 1)"),)),
            confidence=confidence,
        )

    def beside(self, window: Window, report: Report) -> None:
        """One arm of a branch accumulates, and another steps in each round, with a loss that is divided as well."""
        for step in window.ungated():
            report(
                step.place,
                "only one arm of a branch accumulates, and the loss of both is divided",
                label=f"is taken after each micro-batch, whose loss is divided by `{window.spoken}`",
                why="in this arm each step is shorter than the learning rate says",
                help=f"test `{window.text(window.test.whole)}` here too",
                related=[("the window of the other arm closes here", window.step.place)],
            )

    def kept(self, window: Window, report: Report) -> None:
        name, test = window.text(window.test.counter), window.test.whole
        once = isinstance(test, tree.Operation) and test.op in ("==", "!=")
        report(
            Place(window.branch.place.chunk, test),
            "the count of an accumulation window is never set back",
            label=f"is reached by `{name}` once" if once else f"is reached by `{name}` for good",
            why="after the first window no step is taken any more"
            if once
            else "after the first window each micro-batch gets a step of its own",
            help=f"set `{name} = 0` after `{query.spoken(window.step)}.step()`",
            related=[("the window closes here", window.step.place)],
            # an outer loop may do that; and who steps from some count on, and divides by nothing, may have warmed up
            confidence=Confidence.HIGH if window.counts_on is YES and (once or window.divided) else Confidence.MEDIUM,
        )

    def clipped(self, window: Window | Nested, clip: ev.Clip, confidence: Confidence, report: Report) -> None:
        if clip.engine or measures(clip) or reaches(clip.subject, window.optimizer) is not YES:
            return
        report(
            clip.place,
            "gradients are clipped inside the accumulation window",
            label="cuts a sum that is not complete yet",
            why="late micro-batches get more weight than early ones, and the step turns into another direction",
            help=f"clip once, before `{query.spoken(window.step)}.step()`",
            related=[("the window closes here", window.step.place)],
            fix=None if clip.used else _moved(clip, window.step, before=True, drop=False),
            confidence=Confidence.MEDIUM if clip.used else confidence,
        )

    def clipped_early(self, clip: ev.Clip, report: Report, *, certain: bool) -> None:
        """In a window that Accelerate keeps, whose step waits for the last micro-batch by itself."""
        report(
            clip.place,
            "gradients are clipped inside the accumulation window",
            label="cuts a sum that is not complete yet: only the step waits for the last micro-batch",
            why="late micro-batches get more weight than early ones, and the step turns into another direction",
            help="clip under `if accelerator.sync_gradients:`",
            confidence=Confidence.HIGH if certain and not clip.used else Confidence.MEDIUM,
        )

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        name = sighting.optimizer.label if sighting.optimizer else "optimizer"
        if isinstance(sighting, WindowCleared):
            report(
                "gradients are cleared inside the accumulation window",
                site=sighting.cleared,
                label=f"{sighting.at_step}: only the last of {sighting.backwards} backwards was not cleared",
                why="each step sees only the last micro-batch, and the others are computed for nothing",
                help=f"call `{written(sighting.cleared, 'zero_grad()')}` after `{name}.step()` only",
                related=[("made here", sighting.made), ("the window closes here", sighting.site)],
            )
        elif isinstance(sighting, WindowEarly):
            report(
                "the accumulation window closes on its first micro-batch",
                label=f"the first step of {name} used 1 backward, and each later one {sighting.size}",
                why="the first step uses one micro-batch, and the last ones of the loop are left over",
                help=f"count from one, so that the first step comes after {sighting.size} backwards as well",
                related=[("made here", sighting.made)],
            )
        elif isinstance(sighting, WindowClipped):
            report(
                "gradients are clipped inside the accumulation window",
                label=f"{sighting.at_step}: this ran after each of its {sighting.backwards} backwards",
                why="late micro-batches get more weight than early ones, and the step turns into another direction",
                help=f"clip once, before `{written(sighting.stepped, f'{name}.step()')}`",
                related=[("made here", sighting.made), ("the window closes here", sighting.stepped)],
            )


def _between(window: Window, zero: ev.Zero) -> bool:
    """Whether it clears between backward and step, so that not even the last micro-batch is left (GL103)."""
    return window.backward.serial < zero.serial < window.step.serial


def _is_zero(node: tree.Expression | None) -> bool:
    return node is None or (isinstance(node, tree.Constant) and node.value == 0)


def _moved(event: ev.Event, step: ev.Event, *, before: bool, drop: bool) -> Fix | None:
    """Move a statement beside the step, or drop it where there is one already."""
    here, there = repair.stand(event.statement), repair.stand(step.statement)
    if here is None or there is None or here.alone or event.function is not step.function:
        return None
    text = repair.text(event.statement)
    put = repair.insert_before(there, text) if before else repair.insert_after(there, text)
    edits: tuple[Edit, ...] = (repair.delete(here),) if drop else (repair.delete(here), put)
    return Fix("move it to where the window closes", Safety.UNSAFE, edits)
