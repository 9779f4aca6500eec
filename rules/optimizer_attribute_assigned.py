"""GL314: an option is written where the optimizer does not read it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gradcheck_lint.facts import gradflag, repair
from gradcheck_lint.finding import Fix, Safety, Severity
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.runtime.sightings.building import AttributeAssigned
from gradcheck_lint.source import tree
from gradcheck_lint.source.events import Augment, SetAttribute, SetItem
from gradcheck_lint.source.natures import Optimizer, StateDict
from gradcheck_lint.source.place import Place
from gradcheck_lint.source.values import External, Thing, only

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting
    from gradcheck_lint.source.events import Event
    from gradcheck_lint.source.timeline import Timeline

OPTIONS = frozenset(
    "lr learning_rate weight_decay momentum dampening nesterov betas eps amsgrad alpha centered rho".split()
)
"""What torch's optimizers read from their groups."""

_WHY = "the step reads its options from `param_groups`, and they stay as they are"
_COPY = re.compile(r"^(.*)\.state_dict\(\)\[[\"']param_groups[\"']\]", re.DOTALL)


class OptimizerAttributeAssigned(Rule):
    code = "GL314"
    slug = "optimizer-attribute-assigned"
    severity = Severity.ERROR
    fix = Safety.SAFE
    witnesses = frozenset({"source", "run"})
    needs = (SetAttribute, Augment, SetItem)
    watches = (AttributeAssigned,)
    triggers = r"\.defaults\["

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        for event in timeline.events(SetAttribute, Augment, SetItem):
            if isinstance(event, SetItem):
                self.item(timeline, event, report)
            else:
                self.attribute(timeline, event, report)

    def attribute(self, timeline: Timeline, event: SetAttribute | Augment, report: Report) -> None:
        """`optimizer.lr = 0.01`."""
        if isinstance(event, Augment):
            old = only(event.subject)
            owner, name = old.parent if old is not None and old.parent is not None else (None, "")
        else:
            owner, name = only(event.subject), event.attr
        if owner is None or not _torchs_own(owner) or name not in OPTIONS or _read(timeline, name):
            return
        report(
            event.statement,
            f"`{name}` is assigned to the optimizer, which does not read it there",
            label="makes an attribute that no step looks at",
            why=_WHY,
            help=f'write it into the groups: `for group in {owner.label}.param_groups: group["{name}"] = ...`',
            fix=_in_groups(event, name),
        )

    def item(self, timeline: Timeline, event: SetItem, report: Report) -> None:
        """`optimizer.state_dict()["param_groups"][0]["lr"] = 0.01`, `optimizer.defaults["lr"] = 0.01`."""
        subject = only(event.subject)
        if subject is None:
            return
        root = subject.root
        if isinstance(root.what, StateDict) and subject is not root and _unused_copy(timeline, event, root):
            of = root.what.of
            if isinstance(of.what, Optimizer):
                label = "writes into a copy that is thrown away"
                self.tell(event, label, of, report, _uncopied(timeline, event))
        elif subject.parent == (root, "defaults") and _torchs_own(root):
            if not any("add_param_group" in m.text for m in timeline.home.project.modules.values() if m is not None):
                self.tell(event, "is what groups start from that are added later, and none is", root, report, None)

    def tell(self, event: Event, label: str, owner: Thing, report: Report, fix: Fix | None) -> None:
        report(
            event.statement,
            "an option is written where the optimizer does not read it",
            label=label,
            why=_WHY,
            help=f"write it into `{owner.label}.param_groups`",
            fix=fix,
        )

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        assert isinstance(sighting, AttributeAssigned)
        name = sighting.optimizer.label if sighting.optimizer else "optimizer"
        option, where = sighting.option, sighting.where
        target = f"{name}.{where}[{option!r}]" if where else f"{name}.{option}"
        report(
            "an option is assigned where the optimizer does not look for it",
            site=sighting.made,
            label=f"{sighting.at_step}: `{target}` was {sighting.value}, and the groups say {sighting.real}",
            why=f"each group has a `{option}` of its own, and the step reads that",
            help=f'set it in each group: `for group in {name}.param_groups: group["{option}"] = ...`',
            related=[("the optimizer was built here", sighting.built)],
            subject=option,
        )


def _torchs_own(owner: Thing) -> bool:
    """Whether it is an optimizer of torch itself, of which it is known what it reads."""
    cls = owner.cls
    return isinstance(owner.what, Optimizer) and isinstance(cls, External) and cls.name.startswith("torch.optim.")


def _read(timeline: Timeline, name: str) -> bool:
    """Whether some text of the project reads such an attribute: the optimizer may be used as a notebook."""
    reads = re.compile(rf"\.{name}\b(?!\s*(?:[-+*/]=|=(?!=)))")
    texts = [m.text for m in timeline.home.project.modules.values() if m is not None]
    return any(reads.search(text) or gradflag.asked_by_name(text, name) for text in texts)


def _in_groups(event: Event, name: str) -> Fix | None:
    """The same value, written into every group."""
    statement, chunk = event.statement.node, event.place.chunk
    here = repair.stand(event.statement)
    if here is None:
        return None
    if isinstance(statement, tree.Assign) and len(statement.targets) == 1 and statement.value is not None:
        target, op, value = statement.targets[0], "", statement.value
    elif isinstance(statement, tree.Augment):
        target, op, value = statement.target, statement.op, statement.value
    elif isinstance(statement, tree.Evaluate) and isinstance(statement.value, tree.Call):
        if len(statement.value.args) != 3:
            return None
        target, op, value = statement.value, "", statement.value.args[2].value
    else:
        return None
    owner = target.value if isinstance(target, tree.Attribute) else statement.value.args[0].value  # type: ignore[union-attr]
    text = repair.text(Place(chunk, value))
    lines = (
        f'for group in {repair.text(Place(chunk, owner))}.param_groups:\n{here.indent}    group["{name}"] {op}= {text}'
    )
    return Fix("write it into the groups", Safety.SAFE, (repair.replace(event.statement, lines),))


def _unused_copy(timeline: Timeline, event: Event, state: Thing) -> bool:
    """Whether nothing but this assignment ever speaks of the state dict."""
    made = state.place
    if made is None or event.statement.node is made.node:
        return False
    name = state.label
    if not name or not state.bound:
        return _uncopied(timeline, event) is not None  # it is written into where it is made
    module = timeline.home.project.modules.values()
    mentions = sum(len(re.findall(rf"\b{re.escape(name)}\b", m.text)) for m in module if m is not None)
    return mentions == 2  # where it is made, and here


def _uncopied(timeline: Timeline, event: Event) -> Fix | None:
    """The groups themselves in place of those in the copy."""
    from gradcheck_lint.source.timeline import Loop

    places = [event.place]
    for each, around in timeline.located():
        if each is event:
            loops = [s for s in around if isinstance(s, Loop) and isinstance(s.node, tree.For)]
            places += [Place(event.place.chunk, s.node.iter) for s in loops[-1:] if isinstance(s.node, tree.For)]
    for place in places:
        node: tree.Node = place.node
        while isinstance(node, tree.Subscript):
            here = Place(place.chunk, node)
            match = _COPY.fullmatch(repair.text(here))
            if match is not None:
                edit = repair.replace(here, f"{match.group(1)}.param_groups")
                return Fix("write into the groups themselves", Safety.SAFE, (edit,))
            node = node.value
    return None
