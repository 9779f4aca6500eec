"""GL306: one optimizer is handed the same parameter twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gradcheck_lint.facts import handed, shares
from gradcheck_lint.finding import Confidence, Edit, Fix, Safety, Severity, Span
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.runtime.layers import told
from gradcheck_lint.runtime.sightings.building import GivenTwice, RefusedTwice
from gradcheck_lint.source import tree
from gradcheck_lint.source.effort import spend
from gradcheck_lint.source.events import AddGroup
from gradcheck_lint.source.natures import Module, Optimizer, Parameters, Tensor, Walk, element_of, nature
from gradcheck_lint.source.place import Place
from gradcheck_lint.source.run.parts import filtered, has_parameters, module_of, registered
from gradcheck_lint.source.values import Items, Thing, Value, only

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting
    from gradcheck_lint.source.run.parts import Parts


class Mention(NamedTuple):
    """One tensor, or all parameters of one module, among what is handed over."""

    thing: Thing
    group: int
    place: int  # its position in its list


class DuplicateParams(Rule):
    code = "GL306"
    slug = "duplicate-params"
    severity = Severity.ERROR
    fix = Safety.UNSAFE
    witnesses = frozenset({"source", "run"})
    watches = (GivenTwice, RefusedTwice)
    listens = handed.KINDS

    def on_event(self, event: handed.Handing, report: Report) -> None:
        if not handed.takes_parameters(event) or handed.refused(event):
            return
        written = handed.argument(event)
        found = mentions(handed.value(event))
        earlier: list[Mention] = []
        optimizer = nature(event.subject, Optimizer) if isinstance(event, AddGroup) else None
        if optimizer is not None and not optimizer.regrouped:
            earlier = mentions(optimizer.params)
        for position, second in enumerate(found):
            first = next((m for m in found[:position] if overlap(m.thing, second.thing, event.parts)), None)
            if first is None and not another(second.thing, event):
                first = next((m for m in earlier if overlap(m.thing, second.thing, event.parts)), None)
            if first is None and not visits_all(second.thing):
                continue
            what = f"`{second.thing.label}`" if second.thing.label else "a parameter"
            sure = first is None or all(m.thing.root.core.certain for m in (first, second))
            edits = without(written, first, second) if first is not None and first in found else ()
            report(
                written or event.place,
                "the optimizer gets the same parameter twice",
                label=f"holds {what} that is there already",
                why="groups that overlap are refused; in one list each step is taken twice",
                help="hand over each parameter once, for example by the keys of `dict.fromkeys(...)`",
                fix=Fix("remove the second mention", Safety.UNSAFE, edits) if edits else None,
                confidence=Confidence.HIGH if sure else Confidence.MEDIUM,
            )
            return
        found_twice = shares.twice(shares.shares(handed.value(event)))
        if found_twice is not None:
            leaf, _, other = found_twice
            report(
                written or event.place,
                "the optimizer gets the same parameter twice",
                label=f"`{leaf.name}` meets the tests of two groups",
                why="groups that overlap are refused; in one list each step is taken twice",
                help="hand over each parameter once: let one group take what the others leave",
                related=[("it is picked here too", other.place)] if other.place is not None else [],
            )

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        what = told([f"`{name}`" for name in sighting.names]) or "a parameter"
        report(
            "an optimizer is given a parameter twice",
            label=f"{what} {'are' if len(sighting.names) > 1 else 'is'} among them more than once",
            why="torch refuses that, and the program ends here"
            if isinstance(sighting, RefusedTwice)
            else "each step moves it once for each time that it is there",
            help="hand over each parameter once",
            subject=what,
        )


def mentions(given: Value | None) -> list[Mention]:
    """All that is handed over for certain, one by one."""
    found: list[Mention] = []
    for number, (collection, _) in enumerate(handed.collections(given)):
        for place, value in enumerate(elements(collection)):
            thing = only(value)
            if thing is None:
                continue
            of = module_of(thing)
            if of is None or filtered(thing) or (of.summary and not visits_all(of)):
                continue
            if isinstance(thing.what, Parameters) or (
                (isinstance(thing.what, Tensor) or has_parameters(thing)) and element_of(thing) is None
            ):
                found.append(Mention(of, number, place))
    return found


def elements(collection: Value) -> list[Value]:
    """What a collection of parameters is put together from, in the order in which it is written down."""
    if isinstance(collection, Items):
        return collection.items if collection.complete else []
    several = nature(collection, Parameters)
    if several is not None and several.parts is not None and not several.filtered:
        if several.kind is tree.Container.SET or several.open:
            return []
        return [part.items[0] if isinstance(part, Items) and len(part.items) == 1 else part for part in several.parts]
    return [collection]


def visits_all(thing: Thing) -> bool:
    """Whether it stands for each of `model.modules()`, which give the parameters of all below them again."""
    walk = thing.parent[0].via if thing.parent is not None else None
    return isinstance(walk, Walk) and walk.every and walk.module.core.certain


def overlap(one: Thing, other: Thing, parts: Parts) -> bool:
    """Whether two mentions hold a parameter in common for certain."""
    spend(1)
    one, other = one.core, other.core
    if one is other:
        return isinstance(one.what, (Module, Tensor)) or has_parameters(one)
    if one.summary or other.summary:
        return False
    if registered(other, one) or registered(one, other):
        return True
    spend(len(parts.get(one.serial, ())) + len(parts.get(other.serial, ())))
    first = [one, *parts.get(one.serial, ())]
    second = [other, *parts.get(other.serial, ())]
    return any(
        a is b or registered(a, b) or registered(b, a)
        for a in first
        for b in second
        if has_parameters(a) and has_parameters(b)
    )


def another(thing: Thing, event: handed.Handing) -> bool:
    """Whether what is read from a module may be another part than when the optimizer was built, for the module changed.

    `model.blocks[-1]` is another block each time that one has been appended.
    """
    built = event.subject.serial if isinstance(event.subject, Thing) else 0
    above: Thing | None = thing
    while above is not None:
        if above.core.changed > built:
            return True
        above = above.parent[0] if above.parent is not None else None
    return False


def without(written: Place | None, first: Mention, second: Mention) -> tuple[Edit, ...]:
    """Edits that remove the second mention, where both stand in the list as it is written down."""
    if written is None or first.group != second.group:
        return ()
    if not second.thing.inside(first.thing):
        return ()
    node = written.node
    if isinstance(node, tree.Display):
        nodes = node.items
    elif isinstance(node, tree.Operation) and node.op == "+" and len(node.operands) == 2:
        nodes = node.operands
    else:
        return ()
    if second.place >= len(nodes) or second.place == 0:
        return ()
    before = Place(written.chunk, nodes[second.place - 1]).span
    gone = Place(written.chunk, nodes[second.place]).span
    return (Edit(Span(gone.path, before.end_line, before.end_column, gone.end_line, gone.end_column), ""),)
