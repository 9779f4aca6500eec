"""What a loop keeps of each of its rounds together with a graph that backward has used up already.

A loss on which backward is called has a graph, whatever it was computed with, and so has what is computed from it. Its
backward frees what the graph needs, so that nobody can go backward through it again: what keeps it keeps it for
nothing. That is certain, whatever becomes of the sum or the list in code that was not seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from gradcheck_lint.facts import query, regone, repair
from gradcheck_lint.facts.effects import effect
from gradcheck_lint.facts.reach import reaching, terms
from gradcheck_lint.facts.rebinding import mentions
from gradcheck_lint.laws.answer import MAYBE, NO, YES
from gradcheck_lint.laws.reach import Effect
from gradcheck_lint.source import events as ev
from gradcheck_lint.source import limits, tree
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source.effort import spend
from gradcheck_lint.source.natures import Instance, LossScaled, Opaque, Tensor
from gradcheck_lint.source.operations import How
from gradcheck_lint.source.place import Place
from gradcheck_lint.source.tree import Container
from gradcheck_lint.source.values import Constant, Items, Table, Thing, Value, only, options

_Around = tuple[tl.Part, ...]


class Kept(NamedTuple):
    """What is kept: in `keeper`, as the code calls that, by what stands at `place`; `code` is the kept expression.

    `summed` unless it is a list or a dict that keeps it. `inside` is where it is kept, where `place` is the call that
    hands it there. `sure` unless it may have no graph, or the graph may be needed.
    """

    place: Place
    code: Place | None
    keeper: str
    summed: bool
    backward: ev.Backward
    inside: Place | None
    sure: bool


def kept(timeline: tl.Timeline) -> Iterator[Kept]:
    """What is kept in each round of a loop in which a backward uses the graph of it."""
    backs = list(timeline.located(ev.Backward))
    every: list[_Used] = []  # made where something is to be asked
    told: set[int] = set()
    if not backs or not timeline.has(ev.Step):
        return  # a look at some gradients, and no training
    for event, around in chain(timeline.located(ev.Augment, ev.Assign), timeline.located(ev.Keep, ev.SetItem)):
        keeping = _keeping(event)
        if keeping is None:
            continue
        turns = query.loops(around)
        loop = turns[-1] if turns else None  # a backward outside of it would use all that it keeps
        if loop is None or not isinstance(loop.node, (tree.For, tree.While)) or id(event.place.node) in told:
            continue
        if _leaves(loop) or not any(loop in a for _, a in backs):
            continue
        every = every or [_Used(timeline, b, a) for b, a in backs]
        for back in every:
            found = _kept(timeline, event, around, keeping, loop, back, every) if loop in back.around else None
            if found is not None:
                told.add(id(event.place.node))
                yield found
                break


class _Keeping(NamedTuple):
    """Something that may keep a value from round to round."""

    value: Value
    keeper: Value | None  # the list, or the old sum
    code: tree.Expression | None
    summed: bool


def _keeping(event: ev.Augment | ev.Assign | ev.Keep | ev.SetItem) -> _Keeping | None:
    if isinstance(event, ev.Keep):
        node = event.place.node
        if event.value is None or not isinstance(node, tree.Call) or not node.args:
            return None
        return _Keeping(event.value, event.subject, node.args[-1].value, False)
    if isinstance(event, ev.Augment):
        node = event.statement.node
        code = node.value if isinstance(node, tree.Augment) else None
        if event.op not in ("+", "-"):
            return None
        if isinstance(event.value, Items):  # `losses += [loss]`
            one = event.value.items[0] if len(event.value.items) == 1 else None
            code = code.items[0] if isinstance(code, tree.Display) and code.items else None
            return _Keeping(one, event.subject, code, False) if one is not None else None
        return _Keeping(event.value, event.subject, code, True)
    if isinstance(event, ev.SetItem):
        if not isinstance(event.subject, (Table, Thing)) or not _varies(event.index):
            return None
        if isinstance(event.subject, Thing) and not isinstance(event.subject.what, Tensor):
            return None
        return _Keeping(event.value, event.subject, None, False)
    made = event.value.made if isinstance(event.value, Thing) else None
    if made is None or made.how is not How.OPERATOR or event.expression is None or event.old is None:
        return None
    if not mentions(event.expression, tree.dotted(event.target)):
        return None
    return _Keeping(event.value, event.old, _added(event.expression, tree.dotted(event.target)), True)


def _varies(index: Value) -> bool:
    """Whether an index is another one in each round of a loop."""
    return isinstance(index, Thing) and (index.summary or index.via is not None or index.parent is not None)


def _added(expression: tree.Expression, name: str) -> tree.Expression | None:
    """What is added to a name: `loss` of `total + loss`."""
    if not isinstance(expression, tree.Operation) or expression.op not in ("+", "-") or len(expression.operands) != 2:
        return None
    first, second = expression.operands
    if tree.dotted(first) == name:
        return second
    return first if tree.dotted(second) == name else None


def _kept(
    timeline: tl.Timeline,
    event: ev.Augment | ev.Assign | ev.Keep | ev.SetItem,
    around: _Around,
    keeping: _Keeping,
    loop: tl.Loop,
    back: _Used,
    every: Sequence[_Used],
) -> Kept | None:
    sure = back.graphed(keeping.value)
    if sure is None or query.exclusive(around, back.around):
        return None
    if any(other.goes_through(keeping.keeper, event) for other in every):
        return None  # it is differentiated
    if isinstance(event, (ev.Augment, ev.Assign)) and regone.off(event):
        return None
    way = query.inside(around, loop)
    calls = [part for part in way if isinstance(part, tl.Call) and part not in back.around]
    lasting = _outlives(timeline, event, keeping, loop, bool(calls))
    if lasting is None:
        return None
    unasked = any(isinstance(part, tl.Branch) and part not in back.around for part in way)
    short = loop.length is not None and loop.length.number is not None and loop.length.number <= _FEW
    unasked = unasked or not _always(query.inside(back.around, loop), around)
    certain = sure and lasting and back.freed and not unasked and not short and not timeline.cut
    code = Place(event.place.chunk, keeping.code) if keeping.code is not None else None
    return Kept(
        calls[0].place if calls else code or event.place,
        None if calls else code,
        _keeper(event),
        keeping.summed,
        back.event,
        event.place if calls else None,
        certain,
    )


_FEW = 8
"""So few graphs are no burden."""


def _always(way: _Around, around: _Around) -> bool:
    """Whether a backward runs wherever the other event does: not in one arm of a branch alone."""
    branches = [part for part in way if isinstance(part, tl.Branch) and part not in around]
    return all(any(isinstance(e, ev.Backward) for e in tl.inside(arm)) for branch in branches for arm in branch.arms)


def _keeper(event: ev.Augment | ev.Assign | ev.Keep | ev.SetItem) -> str:
    node = event.place.node
    if isinstance(event, ev.Keep) and isinstance(node, tree.Call):
        return query.receiver(event)
    inner = node.value if isinstance(event, ev.SetItem) and isinstance(node, tree.Subscript) else node
    return repair.text(Place(event.place.chunk, inner))


def _outlives(
    timeline: tl.Timeline,
    event: ev.Augment | ev.Assign | ev.Keep | ev.SetItem,
    keeping: _Keeping,
    loop: tl.Loop,
    handed: bool,
) -> bool | None:
    """Whether what keeps the value is there before a round of the loop and after it, and is not emptied in between.

    None if it is not, False if that is not sure.
    """
    keeper, name, sure = keeping.keeper, _keeper(event), True
    if isinstance(event, ev.Augment) and any(isinstance(option, Items) for option in options(keeper)):
        if handed:  # the list is a new one for us: what makes it anew in the loop is an assignment
            return None
    elif isinstance(keeper, (Items, Table)):
        if keeper.serial >= loop.start or (isinstance(keeper, Items) and keeper.kind not in _GROWING):
            return None
    elif not keeping.summed:
        thing = only(keeper)
        if thing is None or thing.made is not None or (thing.place is not None and thing.parent is None):
            return None
        if isinstance(thing.what, Tensor):
            sure = thing.serial < loop.start
        elif not isinstance(thing.what, Opaque) or (thing.serial >= loop.start and thing.root.serial >= loop.start):
            return None
        else:
            sure = False
    elif isinstance(event, ev.Augment) and event.owner is not None:
        owner = only(event.owner)
        if owner is None or not isinstance(owner.what, (Instance, Opaque)) or owner.serial >= loop.start:
            return None
    elif handed:
        return None  # a name of the function that it was handed to
    if "[" in name and not isinstance(event, ev.SetItem):
        sure = sure and isinstance(keeper, (Items, Table))
    last = _last(name)
    for other, _ in timeline.within(loop):
        if other is event:
            continue
        if isinstance(other, ev.Keep) and other.value is None:
            if other.subject is keeper or _last(_keeper(other)) == last:
                return None
        if isinstance(other, (ev.Assign, ev.SetItem)) and _last(repair.text(other.place)) == last:
            if other.place.node is not event.place.node and (not isinstance(other, ev.SetItem) or "[" in name):
                return None
    return sure


def _last(name: str) -> str:
    """The last name in what the code calls something: it may call it otherwise in another function."""
    return name.partition("[")[0].rpartition(".")[2]


_GROWING = (Container.LIST, Container.SET)


def _leaves(loop: tl.Loop) -> bool:
    return any(isinstance(step, tl.Jump) for step in loop.body.steps)


class _Used:
    """A backward, and what it goes through."""

    def __init__(self, timeline: tl.Timeline, event: ev.Backward, around: _Around) -> None:
        self.event, self.around = event, around
        self._reach = reaching(timeline)
        self.freed = regone.kept(event) is False and event.create_graph is None
        self._roots: set[int] = set()  # what has a graph for certain, as backward was called on what is made of it
        self._terms: set[int] = set()  # what may have one
        for option in options(event.subject):
            self._carriers(option)
        self._met: dict[int, Value] = {}  # all that the loss was made of
        self._places: set[int] = set()
        self._gather(event.subject)
        if self._roots:
            self._terms = {id(term.value) for term in terms(event.subject)}

    def _carriers(self, value: Value) -> None:
        """The loss, and what alone can have brought its graph."""
        for _ in range(limits.ALTERNATIVES):
            if not isinstance(value, Thing) or id(value) in self._roots:
                return
            if isinstance(value.what, LossScaled):
                inner = only(value.what.of)
                if inner is None:
                    return
                value = inner
                continue
            self._roots.add(id(value))
            made = value.made
            if made is None or made.how not in (How.OPERATOR, How.METHOD, How.FUNCTION) or effect(made) is not _THROUGH:
                return
            given = [*([made.base] if made.base is not None else ()), *made.args, *(made.keywords or {}).values()]
            having = [one for one in given if self._reach.of(one).grad is not NO]
            if len(having) != 1:
                return
            value = having[0]

    def _gather(self, value: Value | None) -> None:
        todo = list(options(value))
        while todo and len(self._met) < limits.WAY:
            one = todo.pop()
            spend(2)
            if id(one) in self._met or isinstance(one, Constant):
                continue
            self._met[id(one)] = one
            if isinstance(one, Items):
                todo += [o for item in one.items[: limits.ALTERNATIVES] for o in options(item)]
            elif isinstance(one, Table):
                todo += [o for item in list(one.entries.values())[: limits.ALTERNATIVES] for o in options(item)]
            elif isinstance(one, Thing):
                if isinstance(one.what, LossScaled):
                    todo += options(one.what.of)
                if isinstance(one.what, Tensor) and one.what.source is not None:
                    todo.append(one.what.source)
                if one.parent is not None:
                    todo.append(one.parent[0])
                made = one.made
                while made is not None:
                    if made.place is not None:
                        self._places.add(id(made.place.node))
                    given = [made.base, made.inner, *made.args, *(made.keywords or {}).values()]
                    todo += [o for g in given for o in options(g)]
                    made = made.before

    def graphed(self, value: Value) -> bool | None:
        """Whether a value has a graph that this backward has used, or one that hangs on it; None if not."""
        if any(isinstance(one, Thing) and not isinstance(one.what, _VALUES) for one in options(value)):
            return None
        if self._leads(value, self._roots, set()):
            return True
        if not self._roots:
            return None
        if not self._leads(value, self._met, set()):
            return None
        found = self._reach.of(value)
        if found.grad is YES:
            return found.certain
        return False if found.grad is MAYBE and self._leads(value, self._terms, set()) else None

    def goes_through(self, keeper: Value | None, event: ev.Event) -> bool:
        """Whether the loss was made of what keeps values, so that its backward is theirs."""
        if any(id(option) in self._met for option in options(keeper) if not isinstance(option, Constant)):
            return True
        nodes = [event.statement.node] if isinstance(event, ev.Augment) else []
        if isinstance(event, ev.Assign) and event.expression is not None:
            nodes.append(event.expression)
        return any(id(node) in self._places for node in nodes)

    def _leads(self, value: Value | None, to: set[int] | dict[int, Value], seen: set[int]) -> bool:
        """Whether a gradient would go from a value to one of some, by ways that torch recorded."""
        spend(2)
        if id(value) in to:
            return True
        found = [option for option in options(value) if not isinstance(option, Constant)]
        if len(found) != 1 or found[0] is not value:
            return bool(found) and all(self._leads(option, to, seen) for option in found)
        if isinstance(value, Items):
            return any(self._leads(item, to, seen) for item in value.items[: limits.ALTERNATIVES])
        made = value.made if isinstance(value, Thing) else None
        if made is None or id(value) in seen or len(seen) > limits.ALTERNATIVES * 4:
            return False
        seen.add(id(value))
        if made.how is How.JOIN:
            others = [one for one in made.args if not isinstance(one, Constant)]
            return bool(others) and all(self._leads(one, to, seen) for one in others)
        if made.recorded is not YES or effect(made) is not _THROUGH:
            return False
        given: Sequence[Value | None] = (made.base, *made.args)
        return any(self._leads(one, to, seen) for one in given if one is not None)


_VALUES = (Opaque, Tensor, LossScaled)
_THROUGH = Effect.THROUGH
