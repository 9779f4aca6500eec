"""GL407: the graphs of earlier batches stay in memory, because something keeps their losses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence, Fix, Safety, Severity
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.runtime.sightings.order import GraphGrows, GraphKept
from gradcheck_lint.source import events as ev

if TYPE_CHECKING:
    from gradcheck_lint.facts.kept import Kept
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting
    from gradcheck_lint.source.timeline import Timeline


class GraphKeptAlive(Rule):
    code = "GL407"
    slug = "graph-kept-alive"
    severity = Severity.WARNING
    fix = Safety.SAFE
    witnesses = frozenset({"source", "run"})
    needs = (ev.Backward,)
    watches = (GraphKept, GraphGrows)

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        from gradcheck_lint.facts.kept import kept
        from gradcheck_lint.facts.repair import text

        for found in kept(timeline):
            what = text(found.code) if found.code is not None else "the loss"
            report(
                found.place,
                "the graphs of earlier batches are kept in memory",
                label=f"`{found.keeper}` keeps the graph of each round of the loop"
                if found.inside is None
                else f"hands a value with its graph to `{found.keeper}`, which keeps it",
                why="backward has used the graph up, and nothing can use it any more: memory grows with each round",
                help=f"keep `{what}.detach()`, or the number, `{what}.item()`"
                if found.code is not None
                else "hand over `.detach()` of it, or the number, `.item()`",
                related=[
                    *([("kept here", found.inside)] if found.inside is not None else []),
                    ("backward uses the graph here", found.backward.place),
                ],
                fix=_fix(found),
                confidence=Confidence.HIGH if found.sure else Confidence.MEDIUM,
            )

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        if isinstance(sighting, GraphGrows):
            report(
                "each backward goes through the graphs of earlier ones again",
                label=f"{sighting.at_step}: the graph has {sighting.nodes} more nodes at each of "
                f"{sighting.backwards} backwards since the step",
                why="`retain_graph=True` keeps all of them: time and memory grow with the square of their number",
                help="detach what one part hands on to the next, as in `hidden = hidden.detach()`",
                note="to go back through the whole sequence is legitimate: add up the losses, and go backward once",
            )
            return
        assert isinstance(sighting, GraphKept)
        made = sighting.made
        keeper = f"`{sighting.names[0]}`" if sighting.names else "something"
        report(
            "the graphs of earlier batches are kept in memory",
            site=made,
            label=f"{sighting.at_step}: {keeper} holds the graphs of steps back to step {sighting.first}",
            why="each batch leaves its graph behind, which nothing can use any more: memory grows with each step",
            help=f"add `loss.item()` or `loss.detach()` to {keeper if sighting.names else 'what you keep'}",
            related=[("the step at which it was seen", sighting.site)] if made is not None else [],
        )


def _fix(found: Kept) -> Fix | None:
    from gradcheck_lint.facts.repair import append, enclose, parenthesised, text
    from gradcheck_lint.source import tree

    if found.code is None or not found.sure:
        return None
    node = found.code.node
    if isinstance(node, (tree.Name, tree.Attribute, tree.Call, tree.Subscript)):
        return Fix(f"keep `{text(found.code)}.detach()`", Safety.SAFE, (append(found.code, ".detach()"),))
    if not isinstance(node, tree.Operation) or parenthesised(found.code) is not None:
        return None
    return Fix(f"keep `({text(found.code)}).detach()`", Safety.SAFE, enclose(found.code, "(", ").detach()"))
