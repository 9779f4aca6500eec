"""GL410: a penalty on gradients is added to the loss, and torch was not asked to record how they were computed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence, Fix, Safety, Severity
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.source import events as ev

if TYPE_CHECKING:
    from gradcheck_lint.source.place import Place
    from gradcheck_lint.source.timeline import Timeline


class CreateGraphMissing(Rule):
    code = "GL410"
    slug = "create-graph-missing"
    severity = Severity.ERROR
    fix = Safety.SAFE
    needs = (ev.Backward,)

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        from gradcheck_lint.facts.penalties import unrecorded

        for found in unrecorded(timeline):
            place = found.grad.place
            assert place is not None
            report(
                place,
                "a penalty on gradients has no graph, and trains nothing",
                label="gives the gradients as plain numbers: how they were computed is not recorded",
                why="what is made of them is a constant of the loss, which has no gradient of its own",
                help="ask for the graph with `create_graph=True`",
                note="fine where the gradients are only logged",
                related=[("backward runs here on a loss that it is a term of", found.backward.place)],
                fix=_fix(place) if found.sure else None,
                confidence=Confidence.HIGH if found.sure else Confidence.MEDIUM,
            )


def _fix(place: Place) -> Fix | None:
    from gradcheck_lint.facts.repair import append
    from gradcheck_lint.source import tree
    from gradcheck_lint.source.place import Place

    node = place.node
    if not isinstance(node, tree.Call) or not node.args or any(a.star for a in node.args):
        return None
    edit = append(Place(place.chunk, node.args[-1].value), ", create_graph=True")
    return Fix("ask for the graph with `create_graph=True`", Safety.SAFE, (edit,))
