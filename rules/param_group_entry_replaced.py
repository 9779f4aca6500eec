"""GL203: a tensor in `optimizer.param_groups` is exchanged for one that the model does not use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.facts.identity import fresh, stale, taken_over
from gradcheck_lint.facts.rebinding import copy_instead, makes_new, used_later
from gradcheck_lint.finding import Safety, Severity
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.runtime.sightings.holding import EntryReplaced
from gradcheck_lint.source.events import SetItem
from gradcheck_lint.source.holding import held_by
from gradcheck_lint.source.natures import Group, GroupParams, Optimizer
from gradcheck_lint.source.values import Constant, Items, things

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting
    from gradcheck_lint.source import tree
    from gradcheck_lint.source.timeline import Timeline


class ParamGroupEntryReplaced(Rule):
    code = "GL203"
    slug = "param-group-entry-replaced"
    severity = Severity.ERROR
    fix = Safety.UNSAFE
    witnesses = frozenset({"source", "run"})
    needs = (SetItem,)
    watches = (EntryReplaced,)

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        from gradcheck_lint.source import tree

        for event in timeline.events(SetItem):
            statement = event.statement.node
            whole = any(isinstance(t.what, Group) for t in things(event.subject))
            if not isinstance(statement, tree.Assign) or not isinstance(event.place.node, tree.Subscript):
                continue
            if not (_new_list(timeline, event) if whole else _new_entry(event, statement.value)):
                continue
            optimizers = [t.root for t in things(event.subject) if isinstance(t.root.what, Optimizer)]
            found = stale(timeline, event, lambda held, o=optimizers: any(held is held_by(t) for t in o))  # type: ignore[misc]
            if found is None or taken_over(event, found.between, optimizers):
                continue
            report(
                event.statement,
                "a tensor in the optimizer's groups is replaced by one that the model does not use",
                label=f"`{found.name}` updates {'these' if whole else 'this one'} from here on, the model does not",
                why="the model's parameter gets gradients that nobody applies, and the new tensor never gets one",
                help="write the values into the parameter that is there, under `torch.no_grad()`",
                fix=None if whole else copy_instead(timeline, event, event.place.node, statement.value, Safety.UNSAFE),
            )

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        assert isinstance(sighting, EntryReplaced)
        name = sighting.optimizer.label if sighting.optimizer else "optimizer"
        report(
            "a tensor in the optimizer's groups is replaced by one that the model does not use",
            label=f"{sighting.at_step}: {sighting.number} of {sighting.of} entries are others than when it was built",
            why="the model's parameter gets gradients that nobody applies, and the new tensor never gets one",
            help="write the values into the parameter that is there, under `torch.no_grad()`",
            related=[(f"`{name}` took its parameters here", sighting.built)],
        )


def _new_entry(event: SetItem, value: tree.Expression | None) -> bool:
    """Whether an entry of a group's list becomes a tensor that nothing else can know, for it has no name."""
    from gradcheck_lint.source import tree

    statement = event.statement.node
    if not any(isinstance(t.what, GroupParams) for t in things(event.subject)) or not isinstance(
        statement, tree.Assign
    ):
        return False
    if len(statement.targets) > 1 or isinstance(value, (tree.Name, tree.Attribute, tree.Named)):
        return False
    return fresh(event.value) or makes_new(value)


def _new_list(timeline: Timeline, event: SetItem) -> bool:
    """Whether the list of a group becomes one of new tensors, and nobody else gets hold of it."""
    from gradcheck_lint.source import tree

    index, value = event.index, event.value
    if not isinstance(index, Constant) or index.value != "params" or not isinstance(value, Items) or not value.items:
        return False
    if not all(fresh(item) for item in value.items):
        return False
    source = event.statement.node.value  # type: ignore[attr-defined]
    if not isinstance(source, tree.Name):
        return True
    return not used_later(timeline, event, source.id)
