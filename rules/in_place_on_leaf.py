"""GL405: a leaf tensor that requires grad is changed in place while torch records."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gradcheck_lint.facts import repair
from gradcheck_lint.finding import Confidence, Edit, Fix, Safety, Severity, Span
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.source import tree
from gradcheck_lint.source.events import LeafWrite, TorchCall
from gradcheck_lint.source.natures import Parameters, element_of

if TYPE_CHECKING:
    from gradcheck_lint.source.place import Place
    from gradcheck_lint.source.timeline import Timeline
    from gradcheck_lint.source.values import Thing

_METHODS = frozenset({"staticmethod", "classmethod", "property"})


class InPlaceOnLeaf(Rule):
    code = "GL405"
    slug = "in-place-on-leaf"
    severity = Severity.ERROR
    fix = Safety.UNSAFE
    needs = (LeafWrite,)

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        if any(event.name.endswith("set_grad_enabled") for event in timeline.events(TorchCall)):
            return  # recording may be off
        for event in timeline.events(LeafWrite):
            if "try" not in event.context:
                self.written(timeline, event, report)

    def written(self, timeline: Timeline, event: LeafWrite, report: Report) -> None:
        leaf, group = event.subject, element_of(event.subject)
        if group is not None and (not isinstance(group.what, Parameters) or not _takes_own_gradient(event)):
            return  # it may be frozen, or GL601 tells of it
        made = _made(leaf, group)
        made_here = made is not None and made.chunk is event.place.chunk
        name = leaf.label or "it"
        plain = event.function is None or {tree.last_name(d) for d in event.function.decorators} <= _METHODS
        report(
            event.place,
            "a leaf tensor that requires grad is changed in place",
            label=f"writes into `{name}` while torch records",
            why="torch raises a RuntimeError here, as it cannot go back through a change of what it starts from",
            help="change it under `torch.no_grad()`",
            related=[("made here", made)] if made is not None else [],
            fix=_unrecorded(timeline, event),
            # a function may be called where recording is off
            confidence=Confidence.HIGH if plain and (event.function is None or made_here) else Confidence.MEDIUM,
        )


def _made(leaf: Thing, group: Thing | None) -> Place | None:
    """Where the leaf, or the network that it belongs to, is made."""
    if group is None:
        return leaf.place
    network = group.what.of if isinstance(group.what, Parameters) else None
    return network.core.place if network is not None and network.core.certain else None


def _takes_own_gradient(event: LeafWrite) -> bool:
    """Whether the statement speaks of the gradient of the leaf, so that the leaf requires grad for certain."""
    return any(
        isinstance(node, tree.Attribute) and node.attr == "grad" and tree.dotted(node.value) == event.subject.label
        for node in event.statement.node.walk()
    )


def _unrecorded(timeline: Timeline, event: LeafWrite) -> Fix | None:
    """The statement inside of a `with torch.no_grad():`."""
    stand = repair.stand(event.statement)
    if stand is None or stand.first != stand.last or not re.search(r"(?m)^import torch$", timeline.home.text):
        return None
    if not isinstance(event.statement.node, (tree.Augment, tree.Assign, tree.Evaluate)):
        return None
    line = f"{stand.indent}with torch.no_grad():\n    {stand.text}"
    edit = Edit(Span(stand.path, stand.first, 1, stand.last + 1, 1), line)
    return Fix("change it under `torch.no_grad()`", Safety.UNSAFE, (edit,))
