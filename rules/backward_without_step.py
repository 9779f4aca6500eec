"""GL115: gradients are computed and no step ever uses them, or only those of the last batch."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from gradcheck_lint.facts import query
from gradcheck_lint.facts.micro_batches import cleared_within
from gradcheck_lint.facts.wrapped import Past, stepped_past
from gradcheck_lint.finding import Confidence, Severity
from gradcheck_lint.laws.answer import NO, YES
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.runtime.sightings.holding import SavedUnused
from gradcheck_lint.runtime.sightings.order import NeverStepped, StepOutside
from gradcheck_lint.source import events as ev
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source import tree
from gradcheck_lint.source.holding import reaches, shares, trains
from gradcheck_lint.source.natures import StateDict, nature
from gradcheck_lint.source.place import name_of
from gradcheck_lint.source.values import External, Thing, contents, options, things

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting

    Located = Sequence[tuple[ev.Event, tuple[tl.Part, ...]]]

_USED = (ev.Step, ev.Unknown, ev.GradWrite, ev.GradChange)
_CYCLE = (ev.Zero, ev.Backward, *_USED)
WHY = "backward only fills `.grad`; without a step no weight ever moves"


class BackwardWithoutStep(Rule):
    code = "GL115"
    slug = "backward-without-step"
    severity = Severity.ERROR
    witnesses = frozenset({"source", "run"})
    needs = (ev.Backward,)
    watches = (StepOutside, NeverStepped, SavedUnused)
    yields_to = frozenset({("GL106", "optimizer")})

    def on_timeline(self, timeline: tl.Timeline, report: Report) -> None:
        backward: Located = [(e, a) for e, a in timeline.located(ev.Backward) if not e.inputs]
        if not backward:
            return
        for past in stepped_past(timeline):
            self.past(past, report)
        located = list(timeline.located())
        steps = list(timeline.located(ev.Step))
        for optimizer in timeline.optimizers():
            if optimizer.summary or not (optimizer.cls is None or isinstance(optimizer.cls, External)):
                continue
            built = next((e for e, _ in located if isinstance(e, ev.Build) and e.concerns(optimizer)), None)
            if any(e.concerns(optimizer) for e, _ in steps):
                self.outside(timeline, located, optimizer, report)
            elif built is not None and steps:
                self.forgotten(timeline, located, optimizer, built, report)
                self.saved(timeline, optimizer, report)
            elif built is not None:
                self.missing(timeline, located, backward, optimizer, report)

    def past(self, past: Past, report: Report) -> None:
        """The object that wraps the optimizer would step it, and do more."""
        name = past.wrapper.label or past.wrapper.class_name
        report(
            past.step.place,
            "the step goes past the object that wraps the optimizer",
            label=f"steps the optimizer that `{name}` holds, and `{name}` never steps",
            why=f"what `{past.wrapper.class_name}.step` does besides is left out",
            help=f"call `{name}.step()`",
            related=[("this one does more", name_of(past.method.place(past.method.function)))],
        )

    def missing(
        self, timeline: tl.Timeline, located: Located, backward: Located, optimizer: Thing, report: Report
    ) -> None:
        """No optimizer steps at all."""
        if query.named_only(timeline, "step", optimizer):
            return  # GL105
        zeros = [a for e, a in located if isinstance(e, ev.Zero) and e.concerns(optimizer)]
        turns = [(e, a) for e, a in backward if any(query.loops(a) and query.loops(a)[-1] in z for z in zeros)]
        turns = [(e, a) for e, a in turns if not any(isinstance(s, tl.Call) and s.function.decorators for s in a)]
        turns = [(e, a) for e, a in turns if trains(e.subject, optimizer) is not NO]  # else it tries something out
        if not turns or _escapes(located, optimizer) or query.unseen(timeline, optimizer):
            return
        if any(_reads_gradients(node) for _, a in turns for node in _around(a)):
            return  # the gradients themselves may be what is wanted, as in a map of what matters in an image
        event = turns[-1][0]
        name = _name(located, optimizer, event)
        report(
            event.place,
            "gradients are computed and never used",
            label=f"fills the gradients, and `{name}` never steps",
            why=WHY,
            help=f"call `{name}.step()` after it",
            note="code that only looks at gradients needs no optimizer: `model.zero_grad()` clears them as well",
            related=[("this optimizer is never stepped", optimizer.place)] if optimizer.place else [],
            confidence=_confidence(timeline),
        )

    def forgotten(
        self, timeline: tl.Timeline, located: Located, optimizer: Thing, built: ev.Event, report: Report
    ) -> None:
        """Another optimizer steps, and this one does not."""
        if query.named_only(timeline, "step", optimizer):
            return  # GL105
        zeros = [e for e, _ in located if isinstance(e, ev.Zero) and reaches(e.subject, optimizer) is YES]
        stepped = [t for e, _ in located if isinstance(e, ev.Step) for t in things(e.subject)]
        if not zeros or any(shares(optimizer, other) is not NO for other in stepped):
            return
        if _escapes(located, optimizer) or query.unseen(timeline, optimizer):
            return
        name = _name(located, optimizer, built)
        report(
            built.place,
            "this optimizer is cleared and never stepped",
            label="holds parameters that no step ever moves",
            why="what it holds stays as it was initialised, and the rest of the network adapts to that",
            help=f"call `{name}.step()` where the other optimizer steps",
            confidence=_confidence(timeline),
        )

    def saved(self, timeline: tl.Timeline, optimizer: Thing, report: Report) -> None:
        """Another optimizer trains the same model, and the state of this one goes into the checkpoint."""
        if query.unseen(timeline, optimizer) or not optimizer.certain:
            return
        steps = [e for e in timeline.events(ev.Step) if any(shares(optimizer, o) is YES for o in things(e.subject))]
        for event in timeline.events(ev.TorchCall):
            if event.name != "torch.save" or not steps or event.serial < steps[0].serial:
                continue
            states = [nature(part, StateDict) for value in event.args.all() for part in contents(value)]
            if any(state is not None and state.of is optimizer for state in states):
                report(
                    event.place,
                    "the state that is saved is that of an optimizer that never steps",
                    label="goes into the checkpoint, and has no averages and no momentum",
                    why="a run that resumes from it begins with an optimizer that knows nothing of the training",
                    help=f"save the state of `{query.spoken(steps[0])}`, which steps",
                    related=[
                        *([("this optimizer is saved", optimizer.place)] if optimizer.place is not None else []),
                        ("this one steps", steps[0].place),
                    ],
                )

    def outside(self, timeline: tl.Timeline, located: Located, optimizer: Thing, report: Report) -> None:
        """The step stands behind the loop that zeroes and goes backward."""
        turns = [(e, a) for e, a in located if isinstance(e, _CYCLE)]
        for (last, inside), (event, around) in pairwise(turns):
            if not isinstance(event, ev.Step) or not event.concerns(optimizer) or not isinstance(last, ev.Backward):
                continue
            loop = _left(inside, around)
            if loop is None or _reads_gradients(loop.node):
                continue
            inner = timeline.within(loop)
            if any(isinstance(e, _USED) for e, _ in inner):
                continue
            made = next((e, a) for e, a in inner if isinstance(e, ev.Backward))
            zero = next(
                ((e, a) for e, a in inner if isinstance(e, ev.Zero) and reaches(e.subject, optimizer) is YES), None
            )
            if zero is None or not all(query.always(query.inside(a, loop)) for _, a in (made, zero)):
                continue
            if query.loops(query.inside(zero[1], loop)):
                continue
            if any(window.step is event for window, _ in cleared_within(timeline)):
                continue  # GL117 tells that the loop goes over pieces of one batch
            report(
                event.place,
                "the step stands outside the loop that computes the gradients",
                label="uses the gradients of the last batch only",
                why="each batch clears what the one before it has computed, and no step was taken in between",
                help=f"move `{query.spoken(event)}.step()` into the loop, behind backward",
                related=[("cleared in each turn", zero[0].place), ("computed in each turn", made[0].place)],
            )

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        name = sighting.optimizer.label if sighting.optimizer else "optimizer"
        if isinstance(sighting, StepOutside):
            report(
                "the step stands outside the loop that computes the gradients",
                label=f"{sighting.at_step}: only the last of {sighting.backwards} backwards was not cleared",
                why="each batch clears what the one before it has computed, and no step was taken in between",
                help=f"move `{sighting.source(f'{name}.step()')}` into the loop, behind backward",
                related=[
                    ("cleared in each turn", sighting.cleared),
                    ("computed in each turn", sighting.made),
                ],
            )
        elif isinstance(sighting, SavedUnused):
            report(
                "the state that is saved is that of an optimizer that never steps",
                label="goes into the checkpoint, and has no averages and no momentum",
                why="a run that resumes from it begins with an optimizer that knows nothing of the training",
                help=f"save the state of `{name}`, which steps",
                related=[("this optimizer is saved", sighting.made), ("this one steps", sighting.stepped)],
            )
        elif not isinstance(sighting, NeverStepped):
            return
        elif sighting.stepping:
            report(
                "this optimizer is cleared and never stepped",
                label=f"{sighting.backwards} backwards made gradients for {name}, and no step has used them",
                why="what it holds stays as it was initialised, and the rest of the network adapts to that",
                help=f"call `{name}.step()` where the other optimizer steps",
                related=[("the last backward", sighting.backward)],
                confidence=Confidence.MEDIUM if sighting.somewhere else Confidence.HIGH,
            )
        else:
            report(
                "gradients are computed and never used",
                label=f"made gradients for {name} {sighting.backwards} times, and no step has used them",
                why=WHY,
                help=f"call `{name}.step()` after it",
                note="code that only looks at gradients needs no optimizer: `model.zero_grad()` clears them as well",
                related=[("this optimizer is never stepped", sighting.built)],
                confidence=Confidence.MEDIUM if sighting.somewhere else Confidence.HIGH,
            )


def _left(inner: Sequence[tl.Part], outer: Sequence[tl.Part]) -> tl.Loop | None:
    """The innermost loop around one event, if the other stands behind it, on the same path."""
    turns = [s for s in inner if isinstance(s, tl.Loop) and not s.once and isinstance(s.node, (tree.For, tree.While))]
    if not turns or turns[-1] in outer:
        return None
    loop = turns[-1]
    known = [s for s in outer if not isinstance(s, tl.Arm)]
    above = [s for s in inner[: inner.index(loop)] if not isinstance(s, tl.Arm)]
    return loop if above[: len(known)] == known or known[: len(above)] == above else None


def _reads_gradients(node: tree.Node) -> bool:
    """Whether the loop does something else with the gradients."""
    return any(isinstance(n, tree.Attribute) and n.attr in ("grad", "requires_grad_") for n in node.walk())


def _around(steps: Sequence[tl.Part]) -> list[tree.Node]:
    """The loops around an event, and the functions that were called to come to it."""
    found: list[tree.Node] = []
    for step in steps:
        if isinstance(step, tl.Loop):
            found.append(step.node)
        elif isinstance(step, tl.Call):
            found.append(step.function)
    return found


def _escapes(located: Located, optimizer: Thing) -> bool:
    """Whether code that is not in sight may step the optimizer."""
    for event, _ in located:
        if isinstance(event, (ev.Return, ev.Assign, ev.SetItem, ev.SetAttribute)):
            value = event.value
            for option in options(value):
                if isinstance(option, Thing) and option is not optimizer and option.root is optimizer:
                    return True  # `update = optimizer.step`
        if isinstance(event, ev.Backward) and event.engine:
            return True
        if isinstance(event, ev.SetItem) and event.concerns(optimizer):
            return True
    return False


def _name(located: Located, optimizer: Thing, at: ev.Event) -> str:
    """What the code calls an optimizer where an event stands; a function that clears it may call it otherwise."""
    for event, _ in located:
        if isinstance(event, ev.Zero) and event.concerns(optimizer):
            spoken = query.receiver(event)
            if spoken and (event.function is at.function or spoken.startswith("self.")):
                return spoken
    return optimizer.label


def _confidence(timeline: tl.Timeline) -> Confidence:
    """A method is not all that a class does: another one may step."""
    return Confidence.HIGH if timeline.entry is None or not _method(timeline) else Confidence.MEDIUM


def _method(timeline: tl.Timeline) -> bool:
    assert timeline.entry is not None
    found = timeline.home.project.definition_of.get(id(timeline.entry))
    return found is not None and bool(found[1].owner)
