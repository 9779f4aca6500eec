"""GL303: the optimizer gets the result of a computation, not the tensor that gradients are collected for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gradcheck_lint.facts import handed, repair
from gradcheck_lint.finding import Confidence, Edit, Fix, Safety, Severity, Span
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.runtime.layers import told
from gradcheck_lint.runtime.sightings.building import NonLeafGiven, RefusedNonLeaf
from gradcheck_lint.source import tree
from gradcheck_lint.source.events import Assign, Build
from gradcheck_lint.source.natures import Tensor, source_of
from gradcheck_lint.source.values import Constant, Thing, options

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting
    from gradcheck_lint.source.place import Place
    from gradcheck_lint.source.timeline import Timeline


class NonLeafParams(Rule):
    code = "GL303"
    slug = "non-leaf-params"
    severity = Severity.ERROR
    fix = Safety.SAFE
    witnesses = frozenset({"source", "run"})
    watches = (NonLeafGiven, RefusedNonLeaf)

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        for event in timeline.events(*handed.KINDS):
            if not handed.takes_parameters(event) or handed.refused(event) or differentiable(event):
                continue
            told = False  # one finding for all that are computed in the call itself
            for value in handed.tensors(handed.value(event)):
                leaves = [computed(option) for option in options(value)]
                thing = next((o for o, c in zip(options(value), leaves, strict=True) if c), None)
                if not isinstance(thing, Thing) or thing.place is None:
                    continue
                if handed.within(thing.place, event.place):
                    if told:
                        continue
                    told = True
                what = repair.text(thing.place)
                edit = cut_off(timeline, thing, thing.place)
                report(
                    thing.place,
                    "the optimizer gets a tensor that was computed",
                    label="makes a new tensor, which is no leaf",
                    why="gradients are collected for the tensor that it was computed from, and torch refuses this one",
                    help=f"compute first and ask for gradients last: `({what}).detach().requires_grad_()`",
                    related=[("it is handed to the optimizer here", event.place)],
                    fix=Fix("make it a leaf", Safety.SAFE, edit) if edit else None,
                    confidence=Confidence.HIGH if all(leaves) and not _switched(timeline) else Confidence.MEDIUM,
                )

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        what = told([f"`{name}`" for name in sighting.names]) or "one of the tensors"
        assert isinstance(sighting, (NonLeafGiven, RefusedNonLeaf))
        made = sighting.operation.lower() if isinstance(sighting, RefusedNonLeaf) else ""
        report(
            "an optimizer is given a tensor that is the result of a computation",
            site=sighting.made,
            label=f"{what} {'is computed by ' + made if made else 'is computed'} from what requires grad",
            why="only a tensor that nothing else is computed into can be trained: the step would move a copy",
            help="compute first, then `.detach().requires_grad_()`",
            related=[("the optimizer is given it here", sighting.site)] if sighting.made is not None else [],
        )


_SWITCH = re.compile(
    r"^(?![ \t]*(?:(?:async[ ]+)?with\b|@|#))[^\n#]*"
    r"\b(?:set_grad_enabled\(|(?:no_grad|inference_mode|enable_grad)\([^)\n]*\)\.__enter__)",
    re.MULTILINE,
)


def _switched(timeline: Timeline) -> bool:
    """Whether the project switches gradients off or on for all that follows, not for a block or a function alone."""
    texts = (module.text for module in timeline.home.project.modules.values() if module is not None)
    return any(
        ("set_grad_enabled" in text or "__enter__" in text) and _SWITCH.search(text) is not None for text in texts
    )


def computed(value: object) -> bool:
    """Whether it is for certain a tensor that requires grad and is not a leaf."""
    return (
        isinstance(value, Thing) and isinstance(value.what, Tensor) and value.what.leaf is False and not value.summary
    )


def differentiable(event: handed.Handing) -> bool:
    """Whether the optimizer is meant to step through computed tensors."""
    if not isinstance(event, Build):
        return False
    flag = event.args.keywords.get("differentiable")
    return flag is not None and not (isinstance(flag, Constant) and flag.value is False)


def cut_off(timeline: Timeline, thing: Thing, made: Place) -> tuple[Edit, ...]:
    """Edits that make a leaf of it, if the leaf behind it has no name of its own that somebody may mean to train."""
    for event in timeline.events(Assign):
        if event.expression is made.node and repair.stand(event.statement) is not None:
            target = tree.dotted(event.target)
            break
    else:
        return ()
    source = source_of(thing)
    behind = source.place if source is not None else None
    own = handed.within(behind, made) and not any(isinstance(n, tree.Named) for n in made.node.walk())
    if not own and not any(isinstance(n, tree.Expression) and tree.dotted(n) == target for n in made.node.walk()):
        return ()
    if not isinstance(made.node, tree.Operation):
        return (repair.append(made, ".detach().requires_grad_()"),)
    span = repair.parenthesised(made)
    if span is None:
        return (*repair.enclose(made, "(", ").detach().requires_grad_()"),)
    end = Span(span.path, span.end_line, span.end_column, span.end_line, span.end_column)
    return (Edit(end, ".detach().requires_grad_()"),)
