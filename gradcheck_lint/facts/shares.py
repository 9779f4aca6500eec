"""Which parameters of a model the groups of an optimizer have, where the tests that sort them were evaluated."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from gradcheck_lint.facts import handed
from gradcheck_lint.laws.answer import MAYBE, NO, YES, Answer
from gradcheck_lint.source.effort import spend
from gradcheck_lint.source.events import Unknown
from gradcheck_lint.source.model_tree import Leaf, Pick
from gradcheck_lint.source.natures import Instance, Module, Optimizer, Parameters, Tensor, nature
from gradcheck_lint.source.run.parts import has_parameters, module_of
from gradcheck_lint.source.values import Choice, Constant, Items, Table, Thing, Value, contents, things

if TYPE_CHECKING:
    from gradcheck_lint.source import tree
    from gradcheck_lint.source.events import BuildOptimizer
    from gradcheck_lint.source.place import Place
    from gradcheck_lint.source.timeline import Timeline


class Portion(NamedTuple):
    """Some parameters among those that are handed over: picked ones, all of a module, or a single one."""

    pick: Pick | None = None
    module: Thing | None = None
    single: Thing | None = None
    place: Place | None = None

    def has(self, leaf: Leaf) -> Answer:
        """Whether a parameter that requires grad is among them."""
        spend(1)
        if self.pick is not None:
            return self.pick.has(leaf.key)
        if self.module is not None:
            return _in_module(leaf, self.module)
        if self.single is None:
            return MAYBE
        if self.single.serial == leaf.key[0]:
            return YES
        path = _path(self.single, leaf)
        if path is not None:
            return YES if path in leaf.names and len(leaf.names) == 1 else MAYBE if path in leaf.names else NO
        known = isinstance(self.single.what, Tensor) and self.single.what.element_of is None
        return NO if known and self.single.certain else MAYBE


class Share(NamedTuple):
    """What one group has; `whole` unless there may be more in it."""

    portions: tuple[Portion, ...]
    group: Table | None
    whole: bool

    @property
    def options(self) -> frozenset[str]:
        """The options that the group has of its own."""
        return frozenset(str(key) for key in self.group.entries if key != "params") if self.group else frozenset()

    def has(self, leaf: Leaf) -> Answer:
        """Whether a parameter that requires grad is in the group."""
        answers = [portion.has(leaf) for portion in self.portions]
        return YES if YES in answers else NO if self.whole and MAYBE not in answers else MAYBE


def shares(given: Value | None) -> list[Share]:
    """The groups in what an optimizer is given; one without options if it is a plain list of parameters."""
    found = []
    for collection, group in handed.collections(given):
        portions: list[Portion] = []
        whole = _gather(collection, portions, set())
        found.append(Share(tuple(portions), group, whole))
    return found


def of_optimizer(optimizer: Thing) -> list[Share] | None:
    """The groups of an optimizer, those that were added among them; None if they may be others."""
    what = nature(optimizer, Optimizer)
    if what is None or what.regrouped or what.params is None or optimizer.escaped:
        return None
    found = shares(what.params)
    for more in what.added:
        found += shares(more)
    listed = handed.tables(what.params)
    if isinstance(what.params, Items) and listed and (len(listed) < len(what.params.items) or what.params.strange):
        return None
    return found


def picks(found: list[Share]) -> Iterator[Pick]:
    """The choices among the parameters of a model that groups are made of."""
    for share in found:
        for portion in share.portions:
            if portion.pick is not None:
                yield portion.pick


def _gather(value: Value, portions: list[Portion], seen: set[int]) -> bool:
    """Collect what a value holds; whether that is all."""
    spend(1)
    if isinstance(value, (Items, Choice)):
        if id(value) in seen:
            return True
        seen.add(id(value))
    if isinstance(value, Choice):
        portions.append(Portion())  # one of several, whichever it is
        return False
    if isinstance(value, Items):
        sifted = {index for s in value.sifted for index in range(s.start, s.end)}
        portions += [Portion(s.pick, place=value.place) for s in value.sifted]
        rest = [item for index, item in enumerate(value.items) if index not in sifted]
        known = [_gather(item, portions, seen) for item in rest]
        return not value.strange and all(known)
    if isinstance(value, Constant):
        return value.value is None
    if not isinstance(value, Thing):
        return False
    what = value.what
    if isinstance(what, Parameters):
        if what.parts is not None:
            known = [_gather(part, portions, seen) for part in what.parts]
            return not what.open and not what.filtered and all(known)
        if what.picked is not None:
            portions.append(Portion(what.picked, place=value.place))
            return True
        if what.filtered or what.of is None:
            portions.append(Portion())
            return False
        return _gather(what.of, portions, seen)
    if isinstance(what, (Module, Instance)):
        portions.append(Portion(module=value))
        return True
    portions.append(Portion(single=value))
    return (isinstance(what, Tensor) and what.element_of is None) or has_parameters(value)


def _in_module(leaf: Leaf, module: Thing) -> Answer:
    """Whether a parameter is one of a module."""
    if any(module.core is above.core for above in leaf.inside):
        return YES
    path = _path(module, leaf)
    if path is not None:
        found = {name.startswith(f"{path}.") for name in leaf.names}
        return MAYBE if len(found) > 1 else YES if found.pop() else NO
    return NO if module.core.certain and module.parent is None else MAYBE


def _path(part: Thing, leaf: Leaf) -> str | None:
    """By which name a part was read from the model that a parameter belongs to; None if it was not."""
    names: list[str] = []
    thing = part.core
    while thing.parent is not None:
        names.insert(0, thing.parent[1].strip("[]'\""))
        thing = thing.parent[0].core
        if thing is leaf.inside[0].core:
            return ".".join(names)
    return None


def sorted_by(events: Iterable[BuildOptimizer]) -> set[tree.Node]:
    """What the loops go over that have sorted the parameters of a model into lists, where all of it was seen."""
    found: set[tree.Node] = set()
    for event in events:
        for collection, _ in handed.collections(event.given):
            for value in contents(collection):
                if isinstance(value, Items):
                    found |= {sifted.loop.iter for sifted in value.sifted if sifted.pick.tree.whole}
    return found


def nearly(pick: Pick) -> tuple[str, Leaf] | None:
    """What a test looks for in names and no name has, and the parameter whose name is written a little otherwise."""
    met = [text for text, found in pick.sought if found]
    for text, found in pick.sought:
        plain = _plain(text)
        if found or len(plain) < 4 or text in met:
            continue
        for member in pick.tree.leaves:
            if not member.open and plain in _plain(member.name) and not any(t in member.name for t in met):
                return text, member
    return None


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def left_out(found: list[Share], pick: Pick) -> list[Leaf]:
    """The parameters of a model that are in none of the groups, and require grad for all that is known."""
    return [
        leaf
        for leaf in pick.tree.leaves
        if leaf.sure and not leaf.open and leaf.grad is True and all(share.has(leaf) is NO for share in found)
    ]


def twice(found: list[Share]) -> tuple[Leaf, Portion, Portion] | None:
    """A parameter that is in two groups, or twice in one."""
    portions = [portion for share in found for portion in share.portions]
    for pick in picks(found):
        for leaf in pick.tree.leaves:
            having = [portion for portion in portions if leaf.sure and not leaf.open and portion.has(leaf) is YES]
            if len(having) > 1:
                return leaf, having[0], having[1]
    return None


def may_be_trained_elsewhere(timeline: Timeline, model: Thing) -> bool:
    """Whether code that was not seen has the model or its parameters, and may step with an optimizer of its own."""
    for event in timeline.events(Unknown):
        if event.subject is None:
            return True
        for thing in things(event.subject):
            of = module_of(thing)
            if of is None or of.core is model.core or of.inside(model) or model.inside(of):
                return True
    return False


def place_of(found: list[Share]) -> Place | None:
    """Where the first choice among parameters is written."""
    return next((p.place for share in found for p in share.portions if p.pick is not None), None)


def sorts_all(found: list[Share]) -> Answer:
    """Whether groups are meant to have all parameters of a model between them.

    They are if they differ in the decay alone, or are told by their shapes: nobody leaves the biases of layers out that
    are trained. Groups with rates of their own may be the parts that are to be trained. A single list may be as well.
    """
    chosen = list(picks(found))
    if any(pick.shaped for pick in chosen):
        return YES
    if len(found) < 2:
        return NO
    return YES if frozenset().union(*(share.options for share in found)) <= _DECAYS else MAYBE


_DECAYS = frozenset({"weight_decay", "name", "param_names", "group_name", "decay"})
