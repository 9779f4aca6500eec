"""GL305: an iterator over parameters is used a second time, when nothing is left in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.facts import iterators, repair
from gradcheck_lint.facts.unread import read_by_name
from gradcheck_lint.finding import Confidence, Edit, Fix, Safety, Severity
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.runtime.layers import told
from gradcheck_lint.runtime.sightings.building import IteratorSpent, RefusedSpent
from gradcheck_lint.source import tree
from gradcheck_lint.source.events import Assign, Consume
from gradcheck_lint.source.natures import Parameters, nature
from gradcheck_lint.source.place import Place
from gradcheck_lint.source.values import Thing

if TYPE_CHECKING:
    from gradcheck_lint.facts.iterators import Use
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting
    from gradcheck_lint.source.timeline import Timeline


class GeneratorExhausted(Rule):
    code = "GL305"
    slug = "generator-exhausted"
    severity = Severity.ERROR
    fix = Safety.SAFE
    witnesses = frozenset({"source", "run"})
    needs = (Consume,)
    watches = (IteratorSpent, RefusedSpent)

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        for use in iterators.uses(timeline):
            if not use.spent and not use.short:
                continue
            what = repair.text(use.event.place)
            edits = listed(timeline, use)
            made = use.thing.place
            report(
                use.event.place,
                "an iterator over parameters is used a second time",
                label="nothing is left in it" if use.spent else "its first parameter is gone",
                why="who uses it second gets no parameter, and mostly goes on as if it had",
                help=f"keep the parameters in a list where `{what}` is made: `list(...)`",
                related=[("the iterator is made here, and can be walked over once", made)] if made is not None else [],
                fix=Fix("keep the parameters in a list", Safety.SAFE, edits) if edits else None,
                confidence=Confidence.HIGH
                if sure(use.thing) and not read_by_name(timeline, use.event)
                else Confidence.MEDIUM,
            )

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        number = sighting.group if isinstance(sighting, IteratorSpent) else None
        name = sighting.names[0] if sighting.names else ""
        if isinstance(sighting, IteratorSpent) and sighting.iterator:
            left = f"nothing was left in `{sighting.iterator}`"
            label = f"{left}, and no optimizer moves {told(sighting.names)}, which got gradients"
        elif name:
            label = f"{sighting.at_step}: `{name}` was read to its end before, and nothing is clipped"
        elif isinstance(sighting, IteratorSpent) and sighting.begun:
            label = "is given an iterator from which something was taken before"
        elif number is None:
            label = "is given an iterator that was read to its end before"
        else:
            label = f"the iterator for group {number} was read to its end before, and the group is empty"
        report(
            "an iterator that has been read is handed over",
            label=label,
            why="an iterator gives each parameter once, and nothing after that",
            help="put them into a list first: `list(model.parameters())`",
        )


def sure(thing: Thing) -> bool:
    """Whether it is an iterator for certain: `parameters()` of an unknown object may give a list."""
    given = nature(thing, Parameters)
    return given is None or not given.direct or (given.of is not None and given.of.core.certain)


def listed(timeline: Timeline, use: Use) -> tuple[Edit, ...]:
    """Edits that make the iterator a list where it gets its name, and let `next` begin it anew."""
    made = use.thing.place
    if made is None or not any(e.expression is made.node for e in timeline.events(Assign)):
        return ()
    edits: list[Edit] = []
    if isinstance(made.node, tree.Comprehension):
        span = repair.parenthesised(made)
        if span is None:
            return ()
        edits += repair.rebracket(span, "[", "]")
    else:
        edits += repair.enclose(made, "list(", ")")
    for event in timeline.events(Consume):
        if event.subject is use.thing and event.by == "next" and isinstance(event.place.node, tree.Call):
            edits += repair.enclose(Place(event.place.chunk, event.place.node.args[0].value), "iter(", ")")
        elif event.subject is use.thing and event.by in ("?", "for, left early"):
            return ()
    return tuple(dict.fromkeys(edits))
