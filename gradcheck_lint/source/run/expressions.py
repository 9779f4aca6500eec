"""What literals, comprehensions, items and operators give."""

from __future__ import annotations

from collections.abc import Callable

from gradcheck_lint.source import amounts, limits, tree
from gradcheck_lint.source import events as ev
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source.deps import depends
from gradcheck_lint.source.effort import spend
from gradcheck_lint.source.joins import join
from gradcheck_lint.source.natures import (
    Group,
    GroupParams,
    Groups,
    Module,
    Opaque,
    Optimizer,
    Parameters,
    StateDict,
    StateItems,
    Stored,
    Tensor,
    element_of,
    natures_of,
    unordered,
)
from gradcheck_lint.source.operations import How
from gradcheck_lint.source.run import assignment, conditions, iteration, made, objects, picking, shape, tensors, yields
from gradcheck_lint.source.run.arguments import Arguments
from gradcheck_lint.source.run.holdings import callables
from gradcheck_lint.source.run.machine import Machine
from gradcheck_lint.source.tree import Container
from gradcheck_lint.source.values import (
    NONE,
    Choice,
    Constant,
    External,
    Items,
    Nature,
    Table,
    Thing,
    Value,
    limited,
    new_serial,
    only,
    things,
)


def eval_constant(machine: Machine, node: tree.Constant) -> Value:
    return Constant(node.value)


def eval_display(machine: Machine, node: tree.Display) -> Value:
    items: list[Value] = []
    complete = True
    mixed = False
    values: list[Value] = []
    for item in node.items:
        if isinstance(item, tree.Starred):
            inner = machine.eval(item.value)
            iteration.consume(machine, inner, item.value, "*")
            values.append(inner)
            mixed = mixed or (isinstance(inner, Thing) and isinstance(inner.what, Parameters)) or unordered(inner)
            if isinstance(inner, Items):
                more, whole = limited(inner.items)
                spend(len(more) // 8)
                items += more
                complete = complete and inner.complete and whole
            else:
                items.append(inner)
                complete = False
        else:
            items.append(machine.eval(item))
            values.append(items[-1])
    if mixed:
        parts = [
            value if isinstance(item, tree.Starred) else Items(Container.LIST, [value], True, machine.place(item))
            for item, value in zip(node.items, values, strict=True)
        ]
        return objects.joined(machine, node.kind, parts, node)
    listed = Items(node.kind, items, complete, machine.place(node))
    listed.depth = machine.depth
    return listed


def eval_dict(machine: Machine, node: tree.Dict) -> Value:
    entries: dict[object, Value] = {}
    complete = True
    for key, value in node.pairs:
        evaluated = machine.eval(value)
        state = only(evaluated, StateDict) if key is None and len(node.pairs) == 1 else None
        if state is not None:
            return objects.same_state(machine, state, node)  # `{**net.state_dict()}`
        if key is None:
            if isinstance(evaluated, Table):
                complete = objects.take(entries, evaluated.entries) and complete and evaluated.complete
            else:
                complete = False
            continue
        known = machine.eval(key)
        if isinstance(known, Constant) and known.value is not ...:
            entries[known.value] = evaluated
        else:
            entries[id(value)] = evaluated
            complete = False
    return objects.table(machine, entries, complete, node)


def eval_comprehension(machine: Machine, node: tree.Comprehension) -> Value:
    saved = machine.sequence
    machine.sequence = tl.Sequence()
    body = machine.sequence
    start = new_serial()
    conditions = False
    sources: list[Value] = []
    for target, iterable, tests in node.clauses:
        if not sources:
            machine.sequence = saved  # the first iterable is looked at once, before the first round
        value = machine.eval(iterable)
        iteration.iterate(machine, value, iterable)
        iteration.consume(machine, value, iterable, "comprehension")
        sources.append(value)
        machine.sequence = body
        assignment.assign(machine, target, iteration.element(machine, value, target), None, quiet=True)
        for test in tests:
            conditions = True
            machine.eval(test)
    element = machine.eval(node.element)
    mapped = machine.eval(node.value) if node.value is not None else None
    machine.sequence = saved
    only_one = len(sources) == 1 and isinstance(sources[0], Items) and sources[0].complete
    once = only_one and isinstance(sources[0], Items) and len(sources[0].items) == 1
    loop = tl.Loop(body, node, machine.place(node), start=start, once=once) if body.steps else None
    lazy = (
        loop is not None
        and node.kind is Container.GENERATOR
        and any(isinstance(e, ev.Turning) for e, _ in tl.located(loop))
    )
    if loop is not None and not lazy:
        machine.sequence.steps.append(loop)
    found = only(element)
    random = node.kind is Container.SET or any(unordered(source) for source in sources)
    of = element_of(found)
    if of is not None and node.value is None:
        kept = Parameters(
            of, kind=node.kind, filtered=conditions, trainable=shape.asks_for_grad(node), unordered=random
        )
        if conditions and len(node.clauses) == 1:
            kept.picked = picking.picked(machine, sources[0], node.clauses[0][0], node.clauses[0][2])
        return iteration.new_iterator(machine, Thing(kept, "", machine.place(node), deps=depends(found)), node)
    if mapped is not None:
        items = only(sources[0])
        state = items.via.state if items is not None and isinstance(items.via, StateItems) else None
        if state is not None and len(sources) == 1 and shape.passes_on(node.clauses[0][0], node.value):
            return objects.same_state(machine, state, node)
        made_table = Table({id(node): iteration.each(mapped)}, False, machine.place(node))
        made_table.parameters = _by_name(machine, node, mapped, sources[0])
        return made_table
    for one in natures_of(element, Parameters):
        one.several = True  # another iterator in each round
    made_items = Items(node.kind, [element], False, machine.place(node), unordered=random)
    made_items.lazy = loop if lazy else None
    made_items.over = sources[0] if len(sources) == 1 and not conditions else None
    return made_items


def _by_name(machine: Machine, node: tree.Comprehension, mapped: Value, source: Value) -> Thing | None:
    """The parameters in `{name: p for name, p in net.named_parameters() if …}`."""
    of = element_of(only(mapped))
    target, _, tests = node.clauses[0]
    if of is None or len(node.clauses) != 1 or not shape.pairs(target, node.element, node.value):
        return None
    made = Parameters(of, kind=Container.LIST, named=True, filtered=bool(tests))
    if tests:
        made.picked = picking.picked(machine, source, target, tests)
    return Thing(made, "", machine.place(node), deps=depends(mapped))


def eval_subscript(machine: Machine, node: tree.Subscript) -> Value:
    base = machine.eval(node.value)
    index = machine.eval(node.index)
    key = index.value if isinstance(index, Constant) else ...
    if isinstance(base, Table) and key is not ...:
        found = base.entries.get(key)
        if found is not None:
            return found
    if isinstance(base, Choice) and key is not ...:
        kept = [o.entries[key] for o in base.options if isinstance(o, Table) and key in o.entries]
        if kept and all(isinstance(o, (Table, Constant, Thing)) for o in base.options):
            known = all(isinstance(o, Table) or objects.is_none(o) for o in base.options)
            other = [] if known else [Thing(Opaque(), tree.last_name(node), machine.place(node), certain=False)]
            return objects.join_all([*kept, *other])
    if isinstance(base, Table) and base.entries and any(callables(v) for v in base.entries.values()):
        return (
            Choice(tuple(base.entries.values())[: limits.REPEATS]) if len(base.entries) > 1 else objects.found_one(base)
        )
    if isinstance(base, Items):
        if isinstance(key, int) and base.complete and -len(base.items) <= key < len(base.items):
            return base.items[key]
        element = iteration.element(machine, base, node)
        if isinstance(key, int):  # one of several that the code tells apart and we do not
            for one in things(element):
                one.summary = one.summary or isinstance(one.what, Optimizer)
        return element
    thing = only(base)
    if thing is None:
        if isinstance(base, External) and base.name.startswith("typing"):
            return base
        several = key is ... and isinstance(base, Table)
        deps = depends(base, index)
        part = Thing(Opaque(), tree.last_name(node), machine.place(node), deps=deps, summary=several, certain=False)
        return made.note(machine, part, How.ITEM, "", (), node, base=base)
    if isinstance(thing.what, Tensor) and thing.what.grad:
        return made.note(machine, tensors.derived(machine, thing, node, "[]"), How.ITEM, "", (), node, base=thing)
    if isinstance(thing.what, GroupParams):
        return iteration.element(machine, thing, node)
    written = machine.store.get((thing.serial, f"[{key}]")) if key is not ... else None
    if isinstance(thing.what, StateDict) and isinstance(thing.what.of.what, Module) and written is None:
        if thing.copy_of is None:
            via = Stored(thing.what.of, index)
            return Thing(Opaque(), "", machine.place(node), parent=(thing, "[]"), summary=True, certain=False, via=via)
    what: Nature = Opaque()
    if isinstance(thing.what, Groups):
        what = Group()
    elif isinstance(thing.what, Group) and key == "params":
        what = GroupParams()
    if key is ... or isinstance(node.index, tree.Other):
        part = Thing(
            what, thing.label if isinstance(thing.what, Opaque) else "", machine.place(node),
            deps=depends(thing), parent=(thing, "[]"), summary=True, certain=False,
            args=Arguments([index], {}) if isinstance(index, Thing) or machine.looking else None,
        )  # fmt: skip
        if isinstance(index, Thing) and index.made is not None and index.made.name in _CONDITIONS:
            machine.emit(node, ev.Select(part, of=thing, mask=index))
        objects.guess(part)
        return part
    stored = machine.store.get((thing.serial, f"[{key}]"))
    if stored is not None:
        return stored
    part = objects.child(machine, thing, f"[{key!r}]", what, node)
    if isinstance(what, Opaque) and isinstance(key, int):
        part.label = thing.label
    return part


_CONDITIONS = frozenset({"~", "==", "torch.isfinite", "isfinite", "torch.logical_not", "logical_not"})
"""What tells which elements are numbers: `~torch.isnan(y)`, `y == y`."""


def eval_operation(machine: Machine, node: tree.Operation) -> Value:
    if node.op in ("and", "or"):
        values = _in_turn(machine, node)
    else:
        values = [machine.eval(o) for o in node.operands]
    if node.op == "%" or (node.op in _REACHED and isinstance(node.operands[0], (tree.Name, tree.Attribute))):
        size = amounts.amount(values[-1])
        if size is not None:
            machine.sizes[id(node.operands[-1])] = size
    if node.op in ("and", "or", "not", "==", "!=", "is", "is not", "in", "not in", "<", ">", "<=", ">="):
        result = conditions.logic(node.op, values)
        if isinstance(result, Thing) and result.made is None and not any(result is value for value in values):
            how = How.JOIN if node.op in ("and", "or") else How.OPERATOR
            made.operated(machine, result, how, node.op, values, node)
        return result
    if node.op == "+" and isinstance(values[0], Items) and isinstance(values[-1], Items):
        return objects.added(machine, values[0], values[-1], node)
    if node.op == "+" and all(objects.listed(v) for v in values):
        return objects.joined(machine, Container.LIST, values, node)
    if node.op in ("-", "|", "&", "^") and all(objects.kind_of(v) is Container.SET for v in values):
        if all(isinstance(v, Items) for v in values):
            items = [i for v in values for i in (v.items[: limits.ITEMS] if isinstance(v, Items) else [])]
            return Items(Container.SET, items, False, machine.place(node))
        return objects.joined(machine, Container.SET, values, node, filtered=True)
    many = amounts.combined(node.op, values) if node.op in _ARITHMETIC else None
    if all(isinstance(v, Constant) for v in values):
        return Constant(...) if many is None else amounts.Reckoned(many)
    if node.op == "*":
        several = _repeated(machine, values, node)
        if several is not None:
            return several
    result = tensors.computed(machine, node, values)
    if many is not None and isinstance(result, Thing) and isinstance(result.what, Opaque):
        result.via = many
    return made.note(machine, result, How.OPERATOR, node.op, values, node)


_REACHED = frozenset({"==", "!=", ">=", "<"})
"""How a count is compared with what it has to reach."""

_ARITHMETIC = frozenset({"*", "/", "//", "+", "-"})


def _repeated(machine: Machine, values: list[Value], node: tree.Operation) -> Items | None:
    """`[layer] * n`: the same modules again and again."""
    for listed, count in zip(values, reversed(values), strict=True):
        if isinstance(listed, Items) and any(things(item, Module) for item in listed.items):
            times = count.value if isinstance(count, Constant) and type(count.value) is int else None
            items, whole = limited(listed.items * min(2 if times is None else max(times, 0), limits.ITEMS))
            known = whole and listed.complete and times is not None
            return Items(listed.kind, items, known, machine.place(node))
    return None


def _in_turn(machine: Machine, node: tree.Operation) -> list[Value]:
    """The operands of `and` and `or`: the second is looked at on some paths only, if the first does not tell."""
    first = machine.eval(node.operands[0])
    told = isinstance(first, Constant) and first.value is not ... and not machine.trying
    if told and isinstance(first, Constant) and bool(first.value) == (node.op == "or"):
        return [first, NONE]
    found: list[Value] = []

    def second() -> bool:
        found.append(machine.eval(node.operands[1]))
        return False

    if told:
        second()
        return [first, *found]
    sequences, _ = machine.arms([second, lambda: False], node)
    if sequences[0].steps:
        machine.sequence.steps.append(tl.Branch(None, sequences, machine.place(node)))
    return [first, *found]


def eval_conditional(machine: Machine, node: tree.Conditional) -> Value:
    known = conditions.truth(machine, node.test, machine.eval(node.test))
    if known is not None:
        return machine.eval(node.body if known else node.orelse)
    found: list[Value] = []

    def arm(expression: tree.Expression) -> Callable[[], bool]:
        def run() -> bool:
            found.append(machine.eval(expression))
            return False

        return run

    sequences, _ = machine.arms([arm(node.body), arm(node.orelse)], node, node.test)
    if any(s.steps for s in sequences):
        machine.sequence.steps.append(tl.Branch(node.test, sequences, machine.place(node)))
    result = join(found[0], found[1])
    if isinstance(result, Thing) and result.place is None:
        result.place = machine.place(node)
    return result


def eval_starred(machine: Machine, node: tree.Starred) -> Value:
    return machine.eval(node.value)


def eval_other(machine: Machine, node: tree.Other) -> Value:
    values = [machine.eval(part) for part in node.parts]
    if isinstance(node, tree.Yield):
        yields.at_yield(machine, node, values)
        return Thing(Opaque(), "", certain=False)  # what is sent to it
    other = Thing(Opaque(), "", deps=depends(*values), certain=False)
    return made.operated(machine, other, How.JOIN, "", values, node)
