"""GL304: the optimizer gets tensors that never get a gradient, so it never moves them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.facts import handed, query, rewritten
from gradcheck_lint.facts.freezing import frozen, unfrozen_later
from gradcheck_lint.finding import Confidence, Severity
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.runtime.layers import told
from gradcheck_lint.runtime.sightings.building import NeverTrained
from gradcheck_lint.runtime.sightings.mode import AdaptersFrozen, NormsAlone
from gradcheck_lint.source import tree
from gradcheck_lint.source.events import Backward, BuildOptimizer, GradWrite, Step
from gradcheck_lint.source.natures import Data, Module, Parameters, Tensor, nature
from gradcheck_lint.source.run.parts import module_of
from gradcheck_lint.source.values import Thing, only

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting
    from gradcheck_lint.source.timeline import Timeline


class ParamsWithoutGrad(Rule):
    code = "GL304"
    slug = "params-without-grad"
    severity = Severity.ERROR
    witnesses = frozenset({"source", "run"})
    needs = (Backward,)
    watches = (NeverTrained, NormsAlone, AdaptersFrozen)

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        if (
            timeline.cut
            or any(True for _ in timeline.events(GradWrite))
            or not any(True for _ in timeline.events(Backward))
        ):
            return  # gradients that are written by hand, or no training here
        for event in timeline.events(BuildOptimizer):
            if not handed.takes_parameters(event) or not steps(timeline, event):
                continue
            still = next((s for s in standing(timeline, event)), None)
            if still is None:
                continue
            report(
                handed.argument(event) or event.place,
                "the optimizer gets tensors that do not require grad",
                label=f"{still[0]} never gets a gradient",
                why="backward fills no `.grad` for it, and each step passes it by",
                help="let it require grad, or leave it out",
                related=[("it is made here", still[1].place)] if still[1].place is not None else [],
                confidence=Confidence.MEDIUM
                if still[1].root.escaped or rewritten.escaped(still[1])
                else Confidence.HIGH,
            )

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        if isinstance(sighting, NormsAlone):
            self.norms_alone(sighting, report)
            return
        if isinstance(sighting, AdaptersFrozen):
            report(
                "adapters do not require grad, and something else is trained",
                site=sighting.built,
                label=f"{told(sighting.names)} were handed over, and no adapter of the model requires grad",
                why="the step passes over them: they stay what was loaded, or nothing at all",
                help="load them for training, as by `is_trainable=True`, or call `requires_grad_()` on them",
                note="to train a head on a frozen adapter on purpose is legitimate",
                related=[("steps here", sighting.site)],
                confidence=Confidence.MEDIUM,
            )
            return
        assert isinstance(sighting, NeverTrained)
        what, several = told([f"`{name}`" for name in sighting.names]), len(sighting.names) > 1
        report(
            "an optimizer is given tensors that do not require grad",
            site=sighting.built,
            label=f"{what} {'do' if several else 'does'} not require grad, and never came to",
            why="they get no gradient, and the step passes over them"
            if several
            else "it gets no gradient, and the step passes over it",
            help="call `requires_grad_()` on what should learn, and leave out the rest",
            related=[("steps here" if sighting.steps else "goes backward here", sighting.site)],
            confidence=Confidence.HIGH if sighting.whole else Confidence.MEDIUM,
            subject=what,
        )

    def norms_alone(self, sighting: NormsAlone, report: RunReport) -> None:
        from gradcheck_lint.runtime.layers import told

        frozen = sighting.frozen
        report(
            "everything but the norm layers is frozen",
            site=sighting.built,
            label=f"{sighting.at_step}: of all that it was given, {told(sighting.names)} alone can be trained",
            why=f"{told(frozen)} do not require grad: the loss falls a little, and the model hardly learns",
            help="look for the place that sets `requires_grad`: its condition is turned round, or it froze too much",
            note="to tune the norm layers alone on purpose, give the optimizer these alone",
            related=[("steps here", sighting.site)],
            subject="norms",
        )


def steps(timeline: Timeline, event: BuildOptimizer) -> bool:
    """Whether the optimizer steps where it is built, so that all that happens in between is seen."""
    if timeline.entry is not None and event.function is not None and event.function.name == "__init__":
        return False  # other methods than this entry point may unfreeze what it holds
    return any(e.concerns(event.subject) for e in timeline.events(Step))


def standing(timeline: Timeline, event: BuildOptimizer) -> list[tuple[str, Thing]]:
    """What stands still: in words, and the thing."""
    found = []
    for value in handed.tensors(handed.value(event)):
        thing = only(value)
        if thing is None:
            continue
        if without_grad(thing) and not rewritten.filled_elsewhere(timeline, thing):
            found.append((f"`{thing.label}`" if thing.label else "a tensor", thing))
        module = module_of(thing)
        if (
            not isinstance(thing.what, Parameters)
            or module is None
            or not isinstance(module.what, Module)
            or thing.what.filtered
            or query.unseen(timeline)
        ):
            continue
        if module.summary or not module.root.core.certain or unfrozen_later(timeline, event, module):
            continue
        if frozen(timeline, event, module):
            found.append((f"`{module.label}` is frozen and", module))
    return found


def without_grad(thing: Thing) -> bool:
    """Whether it is a tensor that has never required grad."""
    if isinstance(thing.what, Data):
        return thing.parent is not None and isinstance(thing.parent[0].what, Tensor)
    tensor = nature(thing, Tensor)
    if tensor is None or thing.summary or tensor.element_of is not None or tensor.ever:
        return False
    return tensor.grad is False and not decided_elsewhere(thing)


def decided_elsewhere(thing: Thing) -> bool:
    """Whether `requires_grad=` is given a name, which other callers may fill with True."""
    node = thing.place.node if thing.place is not None else None
    if not isinstance(node, tree.Call):
        return False
    return any(a.keyword == "requires_grad" and not isinstance(a.value, tree.Constant) for a in node.args)
