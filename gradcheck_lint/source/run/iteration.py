"""What a loop over a value binds, and that an iterator is used up by it."""

from __future__ import annotations

from gradcheck_lint.source import events as ev
from gradcheck_lint.source import tree
from gradcheck_lint.source.amounts import Number, Rounds
from gradcheck_lint.source.deps import cut_off, depends, passes
from gradcheck_lint.source.effort import spend
from gradcheck_lint.source.joins import join
from gradcheck_lint.source.natures import (
    Buffers,
    Group,
    GroupParams,
    Groups,
    Module,
    Opaque,
    Parameters,
    Sample,
    StateDict,
    StateItems,
    Stored,
    Tensor,
    nature,
)
from gradcheck_lint.source.operations import How
from gradcheck_lint.source.run import generators, looked, made, objects
from gradcheck_lint.source.run.holdings import held
from gradcheck_lint.source.run.machine import Machine
from gradcheck_lint.source.run.touch import turns, unknown
from gradcheck_lint.source.tree import Container
from gradcheck_lint.source.values import Constant, Items, Table, Thing, Value, only, options, things


def element(machine: Machine, value: Value, node: tree.Node) -> Value:
    """What a loop over the value binds."""
    if isinstance(value, Items) and value.items:
        spend(len(value.items))
        result = value.items[0]
        for item in value.items[1:]:
            result = join(result, item)
        return each(result)
    several = [thing for thing in things(value) if isinstance(thing.what, (Parameters, Groups, GroupParams))]
    if len(several) > 1:  # `for group in (first if … else second).param_groups`
        result = element(machine, several[0], node)
        for thing in several[1:]:
            result = join(result, element(machine, thing, node))
        return result
    for thing in things(value):
        if isinstance(thing.what, Parameters):
            if thing.what.named:
                name, found = Constant(...), _parameter_of(machine, thing, node)
                whole = only(thing.what.of, Module)
                found.via = Stored(whole, name) if whole is not None else None
                return Items(Container.TUPLE, [name, found])
            return _parameter_of(machine, thing, node)
        if isinstance(thing.what, Groups):
            return Thing(Group(), "", machine.place(node), deps=thing.deps, parent=(thing, "[]"), summary=True)
        if isinstance(thing.what, GroupParams):
            return _parameter_of(machine, thing, node)
        one = Thing(
            Opaque(), "", machine.place(node), deps=depends(thing), parent=(thing, "[]"), summary=True, certain=False
        )
        of = _stored_in(thing)
        if of is None:
            one.via = Number() if isinstance(thing.via, Rounds) else _sample(machine, thing, node)
            return one
        name = Constant(...)
        one.via = Stored(of, name)
        return Items(Container.TUPLE, [name, one])
    one = Thing(Opaque(), "", machine.place(node), deps=depends(value), summary=True, certain=False)
    return made.note(machine, one, How.ITEM, "", (), node, base=value)


def _sample(machine: Machine, loader: Thing, node: tree.Node) -> Sample | None:
    """What a batch is made of, where the code has the data set."""
    known = looked.loader_of(loader)
    found = looked.sample(machine, known, node) if known is not None else None
    return Sample(found) if found is not None else None


def _stored_in(thing: Thing) -> Thing | None:
    """The module whose tensors a loop goes over with their names: its buffers, or the items of its state."""
    if isinstance(thing.via, Buffers) and thing.via.named:
        return thing.via.of
    state = nature(thing.via.state, StateDict) if isinstance(thing.via, StateItems) else None
    return only(state.of, Module) if state is not None else None


def side_by_side(values: list[Value], sources: list[Value]) -> None:
    """Elements of several iterables at the same place: of one module, they are the same parameter."""
    place = Constant(...)
    for value, source in zip(values, sources, strict=True):
        element, given = only(value, Tensor), nature(only(source), Parameters)
        if element is not None and given is not None and given.direct and not given.filtered and given.of is not None:
            whole = only(given.of, Module)
            element.via = Stored(whole, place) if whole is not None else None


def each(value: Value) -> Value:
    """One of several values: which runs of modules it comes from is another matter for each."""
    if isinstance(value, Items) and any(passes(item) for item in value.items):
        return Items(value.kind, [each(item) for item in value.items], value.complete, value.place)
    if isinstance(value, Thing) and isinstance(value.what, Opaque) and passes(value):
        one = Thing(Opaque(), value.label, value.place, deps=cut_off(value.deps), summary=True, certain=False)
        one.made = value.made
        return one
    return value


def iterate(machine: Machine, value: Value, node: tree.Expression) -> None:
    """Tell what a loop goes over where it is looked up there, not made by a call."""
    if isinstance(node, tree.Attribute):
        machine.emit(node, ev.Iterate(value=value, expression=node))


def _parameter_of(machine: Machine, source: Thing, node: tree.Node) -> Thing:
    what = Tensor(leaf=True, grad=True, element_of=source)
    return Thing(what, "", machine.place(node), deps=depends(source), summary=True)


def consume(machine: Machine, value: Value, node: tree.Node, by: str) -> None:
    """Tell that an iterator is used up; with several values to choose from, that it may be."""
    sure = sum(1 for option in options(value) if not objects.is_none(option)) == 1
    for option in options(value):
        if isinstance(option, Items) and option.lazy is not None:
            machine.sequence.steps.append(option.lazy)
            option.lazy = None
    generator = generators.running(value)
    if generator is not None and by != "for, left early" and by != "for":
        if turns(machine, generator.target, node, generator.args):
            unknown(machine, node, held(machine, generator.target, *generator.args.all()).subject, by)
    for thing in things(value, Parameters):
        given = nature(thing, Parameters)
        if given is not None and given.kind is Container.GENERATOR:
            machine.emit(node, ev.Consume(thing, by=by if sure and not given.several else "?"))


def new_iterator(machine: Machine, thing: Thing, node: tree.Node) -> Thing:
    """Tell of a new iterator over parameters, which can be used up."""
    if isinstance(thing.what, Parameters) and thing.what.kind is Container.GENERATOR:
        machine.emit(node, ev.NewIterator(thing))
    return thing


def consume_all(machine: Machine, value: Value, node: tree.Node, by: str) -> None:
    """Everything iterable inside the params of an optimizer is used up by it."""
    seen: set[int] = set()
    todo = [value]
    while todo:
        spend(1)
        value = todo.pop()
        consume(machine, value, node, by)
        if isinstance(value, (Items, Table)) and id(value) not in seen:
            seen.add(id(value))
            if isinstance(value, Items):
                todo += reversed(value.items)
            elif "params" in value.entries:
                todo.append(value.entries["params"])
