"""What a backward on a value moves, what it does not come to any more, and what cut that off.

Where `reach` asks whether a loss has a graph, and keeps a few examples of what lies behind it, this keeps all of it,
and says of each whether a gradient comes to it on some way. What is not known is among that to which one comes.
"""

from __future__ import annotations

from typing import NamedTuple

from gradcheck_lint.facts.effects import DRAWS, effect, item
from gradcheck_lint.facts.reach import Cutting
from gradcheck_lint.laws import reach as law
from gradcheck_lint.laws.answer import NO
from gradcheck_lint.laws.reach import Effect
from gradcheck_lint.source import limits
from gradcheck_lint.source.effort import spend
from gradcheck_lint.source.natures import Data, Instance, LossScaled, Module, Opaque, Parameters, Tensor
from gradcheck_lint.source.operations import NEW, How, Operation
from gradcheck_lint.source.values import (
    Choice,
    ClassValue,
    Constant,
    External,
    FunctionValue,
    Items,
    Partial,
    Table,
    Thing,
    Value,
)


class Led(NamedTuple):
    """What a value leads to: `alive` gets a gradient, or may, and `cut` is what is cut off, by the id of each.

    `through` are modules whose `forward` was followed, on a way on which nothing was cut off yet: what ran in that is
    told instead of them. It is `open` where the walk came to something that could lead anywhere: there may be more.
    `draws` are what distributions gave by `sample`, where a gradient comes to that and ends. `cuts` are all that cut
    something off.
    """

    alive: dict[int, Thing]
    cut: dict[int, tuple[Thing, Cutting]]
    through: dict[int, Thing]
    open: bool
    draws: tuple[Thing, ...] = ()
    cuts: tuple[Cutting, ...] = ()


_ALIVE = 1 << 60
"""Later than all that cuts off."""


class Walk:
    """One walk back from a value; `by` is what has cut the way off on which something is met, if anything has."""

    def __init__(self) -> None:
        self.alive: dict[int, Thing] = {}
        self.cut: dict[int, tuple[Thing, Cutting]] = {}
        self.through: dict[int, Thing] = {}
        self.open = False
        self.draws: list[Thing] = []
        self.cuts: dict[int, Cutting] = {}
        self.seen: dict[int, int] = {}  # of each value, the latest cut behind which it was met
        self.visits = 0
        self.todo: list[tuple[Value, Cutting | None]] = []

    def run(self, value: Value | None) -> Led:
        self.add(value, None)
        while self.todo:
            one, by = self.todo.pop()
            spend(2)
            rank = _ALIVE if by is None else by.thing.serial
            if self.seen.get(id(one), 0) >= rank:
                continue
            self.visits += 1
            if self.visits >= limits.WAY * 4:
                self.open = True
                break
            self.seen[id(one)] = rank
            self.value(one, by)
        return Led(self.alive, self.cut, self.through, self.open, tuple(self.draws), tuple(self.cuts.values()))

    def add(self, value: Value | None, by: Cutting | None) -> None:
        if value is not None and not isinstance(value, Constant):
            self.todo.append((value, by))
            if by is not None:
                self.cuts[id(by.thing)] = by

    def met(self, thing: Thing, by: Cutting | None) -> None:
        core = thing.core
        if by is None:
            self.alive[id(core)] = core
        else:
            known = self.cut.get(id(core))
            if known is None or known[1].thing.serial < by.thing.serial:  # what was cut off earlier is often meant
                self.cut[id(core)] = core, by

    def value(self, value: Value, by: Cutting | None) -> None:
        if isinstance(value, Choice):
            inner = list(value.options)
        elif isinstance(value, Items):
            inner = value.items
        elif isinstance(value, Table):
            inner = list(value.entries.values())
        elif isinstance(value, FunctionValue):
            inner = [value.receiver] if value.receiver is not None else []
        elif isinstance(value, Partial):
            inner = [value.func, *value.args, *value.keywords.values()]
        else:
            if isinstance(value, Thing):
                self.thing(value, by)
            elif not isinstance(value, (External, ClassValue)):
                self.open = self.open or by is None
            return
        for one in inner:
            self.add(one, by)

    def thing(self, thing: Thing, by: Cutting | None) -> None:
        what, made = thing.what, thing.made
        if isinstance(what, LossScaled):
            self.add(what.of, by)
        elif isinstance(what, (Module, Parameters)):
            of = what.of if isinstance(what, Parameters) and what.of is not None else thing
            self.met(of, by)
        elif isinstance(what, Tensor) and what.element_of is not None:
            self.add(what.element_of, by)
        elif isinstance(what, Tensor) and what.leaf and what.grad:
            self.met(thing, by)
        elif made is not None:
            self.operation(thing, made, by)
        elif isinstance(what, Data) and thing.parent is not None:
            self.add(thing.parent[0], by or Cutting(thing, Effect.CUT, False, True))
        elif isinstance(what, Tensor) and what.source is not None:
            cutting = Cutting(thing, Effect.CUT, False, True) if what.grad is False else None
            self.add(what.source, by or cutting)
        elif thing.parent is not None:
            self.part(thing, by)
        else:
            self.unknown(thing, by)

    def part(self, thing: Thing, by: Cutting | None) -> None:
        assert thing.parent is not None
        base, name = thing.parent
        if self.picked(thing, base, name, by):
            return
        if isinstance(base.core.what, (Module, Instance, Opaque)) and not name.startswith("["):
            self.met(thing, by)
        found = Effect.THROUGH if name.startswith("[") else law.of_attribute(name)
        if found is Effect.NEW:
            return
        self.add(base, by or (Cutting(thing, found, False, True) if found in law.ENDS else None))

    def picked(self, thing: Thing, base: Value | None, index: str, by: Cutting | None) -> bool:
        """Goes on with the one item of a tuple that a followed call gave, and not with what stands beside it."""
        found = item(base, index)
        if found is None:
            return False
        value, calls = found
        if by is None and any(call.recorded is NO for call in calls):
            by = Cutting(thing, Effect.CUT, True, True)
        self.add(value, by)
        for call in calls:
            self.passed(call, by)
        return True

    def unknown(self, thing: Thing, by: Cutting | None) -> None:
        """What is not known may have been made with all that took part in it."""
        self.met(thing, by)
        for one in thing.deps:
            if isinstance(one.what, Module):
                self.met(one, by)

    def operation(self, thing: Thing, made: Operation, by: Cutting | None) -> None:
        if made is NEW:
            return
        if by is None and made.recorded is NO:
            by = Cutting(thing, Effect.CUT, True, True)
        if made.how is How.WRITE and made.before is not None:
            self.operation(thing, made.before, by)
        if made.how in (How.CALL, How.CODE):
            self.called(made, by)
            return
        if made.how is How.ITEM and self.picked(thing, made.base, made.name, by):
            return
        found = effect(made)
        if made.how is How.METHOD and isinstance(made.base, Thing) and isinstance(made.base.what, (Module, Instance)):
            found = Effect.UNKNOWN
        if made.name == "torch.autograd.grad":
            found = Effect.UNKNOWN
        if found is Effect.NEW:
            return
        if by is None and found in law.ENDS:
            if made.name in DRAWS and found is Effect.CUT:
                self.draws.append(thing)
            by = Cutting(thing, found, False, True)
        for one in (made.base, *made.args, *(made.keywords or {}).values()):
            self.add(one, by)

    def called(self, made: Operation, by: Cutting | None) -> None:
        inner = made.inner
        if inner is not None:
            self.add(inner, by)
            self.passed(made, by)
            return
        if made.how is How.CODE and by is None:
            self.open = True
        for one in (made.base, *made.args, *(made.keywords or {}).values()):
            self.add(one, by)

    def passed(self, call: Operation, by: Cutting | None) -> None:
        """Notes a module whose `forward` was followed."""
        if by is None and isinstance(call.base, Thing) and isinstance(call.base.what, Module):
            self.through[id(call.base.core)] = call.base.core


def led_to(value: Value | None) -> Led:
    """What a backward on a value leads to."""
    return Walk().run(value)
