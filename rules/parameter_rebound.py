"""GL201: a parameter is replaced by a new tensor after the optimizer took the old one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.facts.exchanged import taken_over
from gradcheck_lint.facts.identity import Stale, assigns_its_own_way, fresh, frozen, inside, one_name, stale
from gradcheck_lint.facts.order import after
from gradcheck_lint.facts.rebinding import body_of, copy_instead, makes_new, mentions, renewed_by_hand
from gradcheck_lint.finding import Confidence, Safety, Severity
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.runtime.layers import told
from gradcheck_lint.runtime.sightings.holding import ParameterReplaced, VariableReplaced
from gradcheck_lint.source.events import LoadState, Rebind, SetAttribute
from gradcheck_lint.source.natures import Module, Opaque, Tensor, made_by, nature
from gradcheck_lint.source.values import Value, things

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting
    from gradcheck_lint.source import tree
    from gradcheck_lint.source.timeline import Timeline

HEADLINE = "a parameter is replaced by a new tensor"


class ParameterRebound(Rule):
    code = "GL201"
    slug = "parameter-rebound"
    severity = Severity.ERROR
    fix = Safety.UNSAFE
    witnesses = frozenset({"source", "run"})
    needs = (Rebind, SetAttribute, LoadState)
    watches = (ParameterReplaced, VariableReplaced)
    triggers = r"\bParameter\(|\bassign *= *True"

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        optimized = bool(timeline.optimizers())
        for load in timeline.events(LoadState):
            over = taken_over(timeline, load) if optimized else None
            if over is not None:
                self.tell_loaded(load, over, report)
        for event in timeline.events(Rebind, SetAttribute):
            if not optimized or (isinstance(event, SetAttribute) and assigns_its_own_way(event.subject)):
                found = None
            elif isinstance(event, SetAttribute):
                found = _attribute(timeline, event)
            else:
                found = _name(timeline, event)
            if found is not None:
                self.tell(timeline, event, found, report)
            elif isinstance(event, Rebind) and _by_hand(timeline, event):
                self.tell_by_hand(timeline, event, report)

    def tell(self, timeline: Timeline, event: Rebind | SetAttribute, found: Stale, report: Report) -> None:
        target = _target(event)
        report(
            event.statement,
            f"{HEADLINE} after the optimizer took the old one",
            label=f"`{found.name}` goes on with the old one",
            why=f"`{found.name}.step()` moves a tensor that is no longer in use, and the new one never",
            help=f"copy into the old one under `torch.no_grad()`, or build `{found.name}` after this line",
            related=[("the optimizer takes the parameters here", found.build.place)],
            fix=copy_instead(timeline, event, target, event.source, Safety.UNSAFE) if target else None,
            confidence=Confidence.HIGH if found.sure else Confidence.MEDIUM,
        )

    def tell_loaded(self, event: LoadState, found: Stale, report: Report) -> None:
        report(
            event.place,
            "parameters are replaced by the tensors of a state after the optimizer took the old ones",
            label=f"`{found.name}` goes on with the old ones",
            why=f"`{found.name}.step()` moves tensors that are no longer in use, and the new ones never",
            help=f"leave `assign=True` out, or build `{found.name}` after this line",
            related=[("the optimizer takes the parameters here", found.build.place)],
            confidence=Confidence.HIGH if found.sure else Confidence.MEDIUM,
        )

    def tell_by_hand(self, timeline: Timeline, event: Rebind, report: Report) -> None:
        from gradcheck_lint.source import tree

        name = tree.dotted(event.target)
        report(
            event.statement,
            f"{HEADLINE}, which has no gradient",
            label=f"`{name}` is no leaf any more, or needs no gradient",
            why=f"`{name}.grad` is None from here on",
            help=f"write into it, under `torch.no_grad()`: `{name} -= ...`",
            fix=copy_instead(timeline, event, event.target, event.source, Safety.UNSAFE),
        )

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        if not isinstance(sighting, (ParameterReplaced, VariableReplaced)):
            return
        if isinstance(sighting, ParameterReplaced) and sighting.added:
            return  # GL202: it has taken nothing's place
        name = sighting.optimizer.label if sighting.optimizer else "optimizer"
        copied = isinstance(sighting, VariableReplaced) and sighting.copy
        what, several = told(sighting.names), len(sighting.names) > 1
        made = sighting.made
        where = "after this line" if made is not None else f"after the line that gives {what} another tensor"
        report(
            f"{HEADLINE} after the optimizer took the old one",
            site=made,
            label=f"{sighting.at_step}: `{name}` held another tensor than the one in {what}",
            why=f"{what} {'were' if several else 'was'} computed once, and `{name}` moves what it was computed from"
            if copied
            else f"{name}.step() moves the old one, which is not in use any more, and {what} never",
            help=f"write into it under `torch.no_grad()`, or build `{name}` {where}",
            related=[
                ("the optimizer took the old one here", sighting.built),
                *([("steps here", sighting.site)] if made is not None else ()),
            ],
            subject=what,
        )


def _name(timeline: Timeline, event: Rebind) -> Stale | None:
    """A variable of its own that the optimizer was given gets another tensor."""
    target, source = event.target, event.source
    olds = things(event.subject, Tensor)
    if not _is_new(event.value, source, target) or not any(one_name(timeline, event, t) for t in olds):
        return None
    return stale(timeline, event, lambda held: any(t is o for t in held.tensors for o in olds), in_doubt=True)


def _attribute(timeline: Timeline, event: SetAttribute) -> Stale | None:
    """An attribute of a module that the optimizer was given gets a new Parameter."""
    value = event.value
    if event.attr in ("data", "grad") or not fresh(value) or any(frozen(timeline, t) for t in things(value)):
        return None
    if any(made_by(t) != "Parameter" for t in things(value, Tensor)):
        return None  # a module registers nothing else, so the optimizer never had what this was before
    owners = [t for t in things(event.subject) if isinstance(t.what, (Module, Opaque))]
    return stale(timeline, event, lambda held: any(inside(t, held) for t in owners), in_doubt=True) if owners else None


def _is_new(value: Value, source: tree.Expression | None, target: tree.Expression) -> bool:
    from gradcheck_lint.source import tree

    if isinstance(source, (tree.Name, tree.Attribute)):
        return False
    if fresh(value):
        return True
    return makes_new(source) and mentions(source, tree.dotted(target))


def _by_hand(timeline: Timeline, event: Rebind) -> bool:
    """A descent without an optimizer: `w = w - lr * w.grad` in a loop that never makes a leaf of the result."""
    leaves = [t for t in things(event.subject, Tensor) if (known := nature(t, Tensor)) and known.leaf and known.grad]
    if not leaves or event.source is None:
        return False
    body = body_of(timeline, event)
    if not renewed_by_hand(body, event.statement.node, event.target, event.source):
        return False
    if not any(one_name(timeline, event, t) for t in leaves):
        return False
    return any(later is event for later in after(timeline, event))


def _target(event: Rebind | SetAttribute) -> tree.Expression | None:
    from gradcheck_lint.source import tree

    if isinstance(event, Rebind):
        return event.target
    node = event.place.node
    return node if isinstance(node, tree.Attribute) else None
