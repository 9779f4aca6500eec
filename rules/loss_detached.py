"""GL402: the loss, or a term of it, was cut off from the model: a backward on it is refused, or trains nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence, Severity
from gradcheck_lint.laws.reach import Cut, Effect
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.runtime.sightings.reach import BackwardRefused
from gradcheck_lint.source.events import Backward

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting
    from gradcheck_lint.source.timeline import Timeline

HEADLINE = "the loss is cut off from the model"
WHY = "backward cannot reach a parameter from it, so torch refuses it"
NONE = "no `.item()`, `.detach()`, `.data`, numpy, `argmax`, comparison or `torch.no_grad()`"


class LossDetached(Rule):
    code = "GL402"
    slug = "loss-detached"
    severity = Severity.ERROR
    witnesses = frozenset({"source", "run"})
    needs = (Backward,)
    watches = (BackwardRefused,)

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        from gradcheck_lint.facts.effects import DRAWS
        from gradcheck_lint.facts.identity import name_of
        from gradcheck_lint.facts.missed_terms import missed
        from gradcheck_lint.facts.query import once
        from gradcheck_lint.facts.refused import lost, refused
        from gradcheck_lint.facts.repair import text

        for found in once(timeline, refused):
            if found.cut.off:
                continue  # GL404 is about gradients that are switched off
            loss = _loss(text(found.backward.place))
            report(
                found.backward.place,
                HEADLINE,
                label=f"no parameter lies behind {loss} any more",
                why=WHY,
                help=f"carry the gradient all the way from the model to the loss: {NONE}",
                related=[("the graph ends here", found.cut.place)] if found.cut.place is not None else [],
                confidence=Confidence.HIGH if found.certain else Confidence.MEDIUM,
            )
        told: set[int] = set()
        self.draws(timeline, told, report)
        for aim in missed(timeline):
            place = aim.blamed(timeline)
            told.add(id(aim.term.value))
            if place is None or id(place.node) in told:
                continue
            told.add(id(place.node))
            name = f"`{aim.part.label}`" if aim.part.label else "the model"
            report(
                place,
                "a term of the loss is cut off from the model",
                label=f"gradients are switched off here, and the term leads to {name} in no other way"
                if aim.cut.off
                else f"cuts off {name}, to which the term leads in no other way",
                why=f"`{name_of(aim.step)}.step()` moves nothing by this term: it changes what is printed",
                help="draw by `rsample()`, which has a gradient"
                if aim.cut.name in DRAWS
                else f"leave the term the graph of {name}, or leave it out of what backward runs on",
                related=[("backward runs on the sum here", aim.backward.place)],
                # a step further on may move what the term comes to, if there is anything
                confidence=Confidence.HIGH if aim.sure else Confidence.MEDIUM,
            )
        for term in once(timeline, lost):
            if term.cut.effect is not Effect.CUT or term.cut.place is None or term.place is None:
                continue
            if id(term.cut.place.node) in told or id(term.term.value) in told:
                continue
            if term.compared:
                label = "no argument of it leads to a parameter: it is a constant for backward"
            else:
                label = "has the value of what it was computed from, and none of its graph"
            report(
                term.place,
                "a term of the loss is cut off from the model",
                label=label,
                why="the term is added to the loss as a constant: it changes what is printed, and trains nothing",
                help="leave the term its graph, or leave it out of what backward runs on",
                related=[
                    *([("the graph ends here", term.cut.place)] if term.compared and term.cut.place else []),
                    ("backward runs on the sum here", term.backward.place),
                ],
                confidence=Confidence.HIGH if term.compared else Confidence.MEDIUM,
            )

    @staticmethod
    def draws(timeline: Timeline, told: set[int], report: Report) -> None:
        """What is drawn by `sample` and goes on into the loss."""
        from gradcheck_lint.facts.drawn import drawn
        from gradcheck_lint.facts.identity import name_of

        for found in drawn(timeline):
            told.add(id(found.place.node))
            name = f"`{found.part.label}`" if found.part.label else "what made the distribution"
            report(
                found.place,
                "a draw without a gradient cuts the loss off from its distribution",
                label=f"cuts off {name}: `sample()` is computed under `torch.no_grad()`",
                why=f"nothing that the loss says of the draw comes to {name}, which `{name_of(found.step)}` has",
                help="draw by `rsample()`, which has a gradient",
                related=[("backward runs here", found.backward.place)],
                confidence=Confidence.HIGH if found.sure else Confidence.MEDIUM,
            )

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        assert isinstance(sighting, BackwardRefused)
        because = sighting.because
        if because not in (Cut.DETACHED, Cut.NOTHING) or not sighting.trainable:
            return  # GL404 is about gradients that are switched off; what is frozen has no graph to lose
        loss, detached = sighting.root, because is Cut.DETACHED
        whole = f"`{sighting.names[0]}` still has its graph, and " if detached else "no tensor here has a graph, and "
        label = f"{sighting.at_step}: {whole}{f'`{loss}`' if loss else 'the loss'} has none"
        report(
            HEADLINE,
            label=label,
            why=WHY,
            help=f"carry the gradient all the way from {f'`{sighting.names[0]}`' if detached else 'the model'} to the "
            f"loss: {NONE}",
            related=[("made here", sighting.made)],
        )


def _loss(call: str) -> str:
    """What backward is called on, in the words of the code."""
    receiver, dot, _ = call.rpartition(".backward")
    return f"`{receiver}`" if dot and receiver and "\n" not in receiver else "the loss"
