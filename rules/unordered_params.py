"""GL301: an optimizer numbers its parameters by the order of a set, which is another one in every run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.facts import handed, repair
from gradcheck_lint.finding import Confidence, Fix, Safety, Severity
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.runtime.sightings.building import RefusedSet, SetGiven
from gradcheck_lint.source import tree
from gradcheck_lint.source.natures import unordered
from gradcheck_lint.source.values import Items, Thing, options

if TYPE_CHECKING:
    from gradcheck_lint.finding import Edit
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting
    from gradcheck_lint.source.place import Place


class UnorderedParams(Rule):
    code = "GL301"
    slug = "unordered-params"
    severity = Severity.ERROR
    fix = Safety.SAFE
    witnesses = frozenset({"source", "run"})
    watches = (SetGiven, RefusedSet)
    listens = handed.KINDS

    def on_event(self, event: handed.Handing, report: Report) -> None:
        written = handed.argument(event)
        if not handed.takes_parameters(event) or written is None or handed.refused(event):
            return
        for value, _ in handed.collections(handed.value(event)):
            mixed = [unordered(option) for option in options(value)]
            if not any(mixed):
                continue
            made = value.place if isinstance(value, (Items, Thing)) else None
            inside = handed.within(made, written)
            place = made if made is not None and inside else written
            ordered = ordered_instead(made) if made is not None and inside else None
            related = [("takes its order from a set", made)] if made is not None and not inside else []
            report(
                place,
                "the optimizer gets its parameters from a set",
                label="the order of a set is another one in every run",
                why="the optimizer keeps its state by position, so a resumed run gives it to other parameters",
                help=f"hand over a list in the order of the model instead of `{repair.text(place)}`",
                related=related,
                fix=Fix("make it a list", Safety.SAFE, ordered) if ordered else None,
                confidence=Confidence.HIGH if all(mixed) else Confidence.MEDIUM,
            )

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        report(
            "parameters are handed over in a set, which has no order",
            label=f"is given a set of {sighting.number} tensors"
            if isinstance(sighting, SetGiven)
            else "is given a set, and torch refuses it here",
            why="their order changes between runs, so that a resumed optimizer pairs its state with other parameters",
            help="hand over a list",
        )


def ordered_instead(made: Place) -> tuple[Edit, ...]:
    """Edits that turn a set as it is written down into a list of the same tensors; none if only the author knows."""
    node = made.node
    if isinstance(node, tree.Call):
        if len(node.args) != 1 or not gives_each_once(node.args[0].value):
            return ()
        if tree.last_name(node.func) not in ("set", "frozenset"):
            return ()
        return (repair.replace(made._replace(node=node.func), "list"),)
    if isinstance(node, tree.Comprehension) and (len(node.clauses) > 1 or not gives_each_once(node.clauses[0][1])):
        return ()
    if isinstance(node, tree.Display) and any(isinstance(item, tree.Starred) for item in node.items):
        return ()
    if isinstance(node, (tree.Display, tree.Comprehension)) and node.kind is tree.Container.SET:
        return repair.rebracket(made.span, "[", "]")
    return ()


def gives_each_once(node: tree.Expression) -> bool:
    """Whether it is `x.parameters()`, filtered or not, which gives no parameter twice, so that no set is needed."""
    if not isinstance(node, tree.Call):
        return False
    if isinstance(node.func, tree.Name) and node.func.id == "filter" and len(node.args) == 2:
        return gives_each_once(node.args[1].value)
    return isinstance(node.func, tree.Attribute) and node.func.attr == "parameters"
