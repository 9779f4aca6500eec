"""GL316: a list of parameters or a parameter group is built and never handed to an optimizer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.facts import handed, shares
from gradcheck_lint.facts.unread import never_read
from gradcheck_lint.finding import Confidence, Severity
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.runtime.layers import told
from gradcheck_lint.runtime.sightings.holding import GroupEmpty, GroupForgotten
from gradcheck_lint.source import tree
from gradcheck_lint.source.events import Assign, BuildOptimizer, Consume
from gradcheck_lint.source.holding import surely_holds
from gradcheck_lint.source.natures import Optimizer, Parameters, Tensor, element_of, nature
from gradcheck_lint.source.place import Place
from gradcheck_lint.source.values import Items, Table, Thing, Value, only, things

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting
    from gradcheck_lint.source.timeline import Timeline


class GroupNeverUsed(Rule):
    code = "GL316"
    slug = "group-never-used"
    severity = Severity.ERROR
    witnesses = frozenset({"source", "run"})
    needs = (BuildOptimizer,)
    watches = (GroupForgotten, GroupEmpty)

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        built = [e for e in timeline.events(BuildOptimizer) if handed.takes_parameters(e)]
        if not built:
            return
        for building in built:
            self.nobody_in(building, report)
        for event in timeline.events(Assign):
            target = event.target
            if not isinstance(target, tree.Name) or not any(e.function is event.function for e in built):
                continue
            if target.id.startswith("_") or not of_parameters(event.value):
                continue
            if any(surely_holds(o, event.value) for e in built for o in things(e.subject, Optimizer)):
                continue  # left over: they are trained anyway
            if never_read(timeline, event, target.id):
                report(
                    event.place,
                    "parameters are collected and handed to no optimizer",
                    label=f"`{target.id}` is never used",
                    why="what is in it is not trained, or not with the options that stand there",
                    help=f"hand `{target.id}` to the optimizer, or remove it",
                    related=[("the optimizer is built here", e.place) for e in built if e.function is event.function][
                        :1
                    ],
                )
        sorted_known = shares.sorted_by(built)
        for place, lists in splits(timeline):
            if place.node in sorted_known:
                continue  # which parameters these are was seen: GL207 tells of those that are in no list
            report(
                place,
                "a split by names may drop parameters",
                label="a parameter that matches none of the cases is in no list",
                why="what is in no list is not trained",
                help="end the split with an `else`",
                note="right if the names of all parameters are known to match: " + ", ".join(f"`{n}`" for n in lists),
                confidence=Confidence.MEDIUM,
            )

    def nobody_in(self, event: BuildOptimizer, report: Report) -> None:
        """A group, or one of the names that a split goes by, is for parameters that the model does not have."""
        found = shares.shares(event.given)
        for share in found:
            picks = [p for p in share.portions if p.pick is not None]
            if len(found) < 2 or not share.whole or len(picks) < len(share.portions) or not picks:
                continue
            first = picks[0].pick
            if first is None or not all(p.pick is not None and p.pick.empty for p in picks):
                continue
            near = next((n for p in picks if p.pick is not None and (n := shares.nearly(p.pick)) is not None), None)
            unmet = [text for text, met in first.sought if not met]
            if near is None and not (unmet and share.options - {"weight_decay"}):
                continue
            text = near[0] if near is not None else unmet[0]
            report(
                picks[0].place or event.place,
                "no parameter of the model falls into a group",
                label=f"no name has `{text}` where this looks for it",
                why="the options of the group change nothing, and its parameters are trained with those of another one",
                help=f"the name of one of them is `{near[1].name}`"
                if near is not None
                else f"see `model.named_parameters()`: `{first.tree.leaves[0].name}` is the first",
                related=[("the optimizer is built here", event.place)],
                confidence=Confidence.HIGH if near is not None else Confidence.MEDIUM,
            )
            return
        for portion in (portion for share in found if len(found) > 1 for portion in share.portions):
            near = shares.nearly(portion.pick) if portion.pick is not None and _whole(found) else None
            if near is not None:
                report(
                    portion.place or event.place,
                    "no parameter of the model has a name by which groups are split",
                    label=f"no name has `{near[0]}` where this looks for it",
                    why=f"`{near[1].name}` is trained with the options of another group than it is meant for",
                    help="write the name as the model does",
                    related=[("the optimizer is built here", event.place)],
                )
                return

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        if isinstance(sighting, GroupEmpty):
            report(
                "no parameter of the model falls into a group",
                site=sighting.at or sighting.site,
                label=f"no name begins with `{sighting.word}`, so that group {sighting.group} is empty",
                why="the options of the group change nothing, and its parameters are trained with those of another one",
                help=f"the name of one of them is `{sighting.names[0]}`",
                related=[("the optimizer is built here", sighting.built)],
                subject=sighting.word,
            )
            return
        assert isinstance(sighting, GroupForgotten)
        name = sighting.list
        report(
            "parameters are collected and handed to no optimizer",
            site=sighting.made,
            label=f"`{name}` is not among what the optimizer is given",
            why=f"{told(sighting.names)} got gradients in every backward, and no optimizer moves them",
            help=f"hand `{name}` to the optimizer, or freeze what is in it",
            related=[("steps here", sighting.site)],
            subject=name,
        )


def _whole(found: list[shares.Share]) -> bool:
    """Whether all is known of what the groups have."""
    return all(share.whole for share in found)


def of_parameters(value: Value) -> bool:
    """Whether it is a list of parameters, or of groups of parameters, or one group."""
    if isinstance(value, Table):
        return "params" in value.entries
    if isinstance(value, Items):
        return (
            value.kind is tree.Container.LIST
            and bool(value.items)
            and all(_parameter(i) or _group(i) for i in value.items)
        )
    return (
        isinstance(value, Thing)
        and isinstance(value.what, Parameters)
        and value.what.kind is tree.Container.LIST
        and not value.what.named
    )


def _group(value: Value) -> bool:
    return isinstance(value, Table) and "params" in value.entries


def _parameter(value: Value) -> bool:
    thing = only(value)
    return thing is not None and isinstance(thing.what, Tensor) and element_of(thing) is not None


def splits(timeline: Timeline) -> list[tuple[Place, list[str]]]:
    """The loops over named parameters that sort them into lists by cases, without a case for all others."""
    found = []
    for event in timeline.events(Consume):
        loop = event.statement.node
        if event.by != "for" or not isinstance(loop, tree.For) or len(loop.body) != 1:
            continue
        walked = nature(event.subject, Parameters)
        if walked is None or not walked.named:
            continue
        lists = cases(loop.body[0])
        if len(set(lists)) > 1:
            found.append((event.place, lists))
    return found


def cases(statement: tree.Statement) -> list[str]:
    """The lists that the arms of an `if` without `else` append to; none if it is anything else."""
    lists: list[str] = []
    while isinstance(statement, tree.If) and len(statement.body) == 1:
        name = appended_to(statement.body[0])
        if not name:
            return []
        lists.append(name)
        if not statement.orelse:
            return lists
        if len(statement.orelse) != 1:
            return []
        statement = statement.orelse[0]
    return []


def appended_to(statement: tree.Statement) -> str:
    """The name of the list that a statement appends to."""
    call = statement.value if isinstance(statement, tree.Evaluate) else None
    if isinstance(call, tree.Call) and isinstance(call.func, tree.Attribute) and call.func.attr == "append":
        return tree.dotted(call.func.value)
    return ""
