"""Functions of Python and of its own library."""

from __future__ import annotations

import math
from dataclasses import replace

from gradcheck_lint.source import amounts, limits, torch_api, tree
from gradcheck_lint.source import events as ev
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source.deps import cut_off, depends
from gradcheck_lint.source.effort import spend
from gradcheck_lint.source.joins import join
from gradcheck_lint.source.natures import (
    Grad,
    Identity,
    MethodCaller,
    Module,
    Opaque,
    Optimizer,
    Parameters,
    StateDict,
    Tensor,
    nature,
    unordered,
)
from gradcheck_lint.source.run import access, assignment, generators, iteration, names, objects, parts, picking
from gradcheck_lint.source.run.arguments import Arguments
from gradcheck_lint.source.run.holdings import callables, held
from gradcheck_lint.source.run.library import function
from gradcheck_lint.source.run.machine import Function, Machine
from gradcheck_lint.source.run.touch import turning, unknown
from gradcheck_lint.source.run.yields import enumerated
from gradcheck_lint.source.tree import Container
from gradcheck_lint.source.values import (
    NONE,
    Constant,
    External,
    FunctionValue,
    Items,
    Partial,
    Table,
    Thing,
    Value,
    limited,
    only,
    options,
    things,
)

NO_RETURN = External("builtins.NoReturn")


_COLLECTED = {
    "list": Container.LIST,
    "tuple": Container.TUPLE,
    "set": Container.SET,
    "sorted": Container.LIST,
    "reversed": Container.LIST,
}
"""What functions of Python put the items of an iterable into; `iter` leaves them where they are."""


def _collect(kind: str) -> Function:
    """list(x), tuple(x), set(x), sorted(x), reversed(x), iter(x)."""

    def collect(machine: Machine, args: Arguments, node: tree.Call) -> Value | None:
        if not args.positional:
            return Items(_COLLECTED.get(kind, Container.GENERATOR), [], True, machine.place(node))
        value = args.positional[0]
        called = turning(machine, [*args.keywords.values(), *(args.positional if kind == "iter" else ())], args, node)
        if called is not None:
            unknown(machine, node, called.subject, kind)
        if kind != "iter":
            iteration.consume(machine, value, node.args[0].value, kind)
        result: Value | None = None
        for option in options(value):
            made: Value | None = None
            if (
                kind == "iter"
                and isinstance(option, Thing)
                and isinstance(option.what, Parameters)
                and option.what.kind is Container.GENERATOR
            ):
                result = option if result is None else join(result, option)  # an iterator is its own iterator
                continue
            mixed = kind != "sorted" and (kind == "set" or unordered(option))
            if isinstance(option, Items):
                to = _COLLECTED.get(kind, option.kind)
                items, whole = limited(option.items)
                spend(len(items) // 8)
                copied = Items(to, list(items), option.complete and whole, machine.place(node), unordered=mixed)
                copied.over = option if kind != "set" else None
                copied.strange, copied.sifted = option.strange, option.sifted
                made = copied
            elif isinstance(option, Thing) and isinstance(option.what, Parameters):
                to = _COLLECTED.get(kind, Container.GENERATOR)
                what = replace(option.what, kind=to, direct=False, unordered=mixed)
                if kind == "sorted" and what.parts is not None:
                    what.parts, what.open = [], True
                made = iteration.new_iterator(machine, Thing(what, "", machine.place(node), deps=option.deps), node)
            elif isinstance(option, Table):
                made = Items(Container.LIST, [], False, machine.place(node))
            elif kind in ("list", "tuple", "set"):
                made = Items(_COLLECTED[kind], [iteration.element(machine, option, node)], False, machine.place(node))
            else:
                made = Thing(Opaque(), "", machine.place(node), deps=depends(option), certain=False)
            result = made if result is None else join(result, made)
        return result

    return collect


function("builtins.list")(_collect("list"))
function("builtins.tuple")(_collect("tuple"))
function("builtins.set", "builtins.frozenset")(_collect("set"))
function("builtins.sorted")(_collect("sorted"))
function("builtins.reversed")(_collect("reversed"))
function("builtins.iter")(_collect("iter"))


def _called_on_each(machine: Machine, args: Arguments, node: tree.Call) -> None:
    """`map(f, …)` and the like call f, now or when somebody takes what comes of it."""
    called = turning(machine, args.positional[:1], args, node)
    if called is not None:
        unknown(machine, node, called.subject, tree.last_name(node.func))
    for each in callables(args.get(0, "function")):
        if isinstance(each, FunctionValue):
            values = [each, *args.positional[1:]]
            parts.may_grow(machine, node, held(machine, *values), values, each.function)


@function("builtins.filter")
def _filter(machine: Machine, args: Arguments, node: tree.Call) -> Value | None:
    source = args.get(1, "iterable")
    _called_on_each(machine, args, node)
    for thing in things(source, Parameters):
        iteration.consume(machine, thing, node.args[-1].value, "filter")
        _spelt(machine, args.get(0, "function"), iteration.element(machine, thing, node))
        given = nature(thing, Parameters) or Parameters()
        what = replace(given, kind=Container.GENERATOR, direct=False, filtered=True)
        what.trainable = _asks_for_grad(args.get(0, "function"))
        what.picked = picking.filtered(machine, thing, args.get(0, "function"))
        return iteration.new_iterator(machine, Thing(what, "", machine.place(node), deps=thing.deps), node)
    if isinstance(source, Items):
        return Items(Container.GENERATOR, source.items, False, machine.place(node), unordered=source.unordered)
    return None


def _spelt(machine: Machine, function: Value | None, element: Value) -> None:
    """Run the lambda of a filter if something in it is nearly called `requires_grad`; else it tells nothing."""
    if isinstance(function, FunctionValue) and function.function.name == "<lambda>":
        names = [n.attr for n in tree.walk_block(function.function.body) if isinstance(n, tree.Attribute)]
        if any(torch_api.misspelt(name) for name in names):
            machine.follow(function, Arguments([element], {}), None)


def _asks_for_grad(function: Value | None) -> bool:
    """Whether a function is `lambda p: p.requires_grad`."""
    if not isinstance(function, FunctionValue) or len(function.function.body) != 1:
        return False
    statement = function.function.body[0]
    return isinstance(statement, tree.Return) and tree.last_name(statement.value) == "requires_grad"


@function("builtins.map", "itertools.chain.from_iterable")
def _map(machine: Machine, args: Arguments, node: tree.Call) -> Value | None:
    for value, argument in zip(args.positional[1:], node.args[1:], strict=False):
        iteration.consume(machine, value, argument.value, "map")
    _called_on_each(machine, args, node)
    function = args.get(0, "function")
    if isinstance(function, External) and function.name == "builtins.id" and len(args.positional) == 2:
        via = Identity(args.positional[1])
        return Thing(Opaque(), "map", machine.place(node), deps=depends(*args.all()), certain=False, via=via)
    return Thing(Opaque(), "map", machine.place(node), deps=depends(*args.all()), certain=False)


@function("builtins.id")
def _id(machine: Machine, args: Arguments, node: tree.Call) -> Value | None:
    if len(args.positional) != 1:
        return None
    return Thing(Opaque(), "id", machine.place(node), certain=False, via=Identity(args.positional[0]))


@function("itertools.chain")
def _chain(machine: Machine, args: Arguments, node: tree.Call) -> Value | None:
    for value, argument in zip(args.positional, node.args, strict=False):
        iteration.consume(machine, value, argument.value, "chain")
    chained = list(args.positional)
    mixed = any(unordered(part) for part in chained)
    made = Parameters(parts=chained, kind=Container.GENERATOR, open=args.open, unordered=mixed)
    return iteration.new_iterator(machine, Thing(made, "", machine.place(node), deps=depends(*chained)), node)


@function("builtins.float")
def _float(machine: Machine, args: Arguments, node: tree.Call) -> Value | None:
    value = args.get(0, "x")
    if isinstance(value, Constant) and value.value in ("inf", "Inf", "infinity"):
        return Constant(math.inf)
    return None


@function("builtins.enumerate")
def _enumerate(machine: Machine, args: Arguments, node: tree.Call) -> Value | None:
    source = args.get(0, "iterable")
    if isinstance(source, Items) and source.complete:
        items, whole = limited(source.items)
        spend(len(items))
        pairs: list[Value] = [Items(Container.TUPLE, [Constant(n), v]) for n, v in enumerate(items)]
        return Items(Container.LIST, pairs, whole, machine.place(node))
    if source is None:
        return None
    generator = generators.running(source)
    if generator is not None and generator.shape is None:
        return enumerated(machine, generator, node)
    iteration.consume(machine, source, node.args[0].value, "enumerate")
    index = Thing(Opaque(), "index", certain=False, via=amounts.Number())
    place = source.place if isinstance(source, Items) else None
    made = Items(
        Container.LIST, [Items(Container.TUPLE, [index, iteration.element(machine, source, node)])], False, place
    )
    made.over = source
    return made


@function("builtins.zip")
def _zip(machine: Machine, args: Arguments, node: tree.Call) -> Value | None:
    lists = [v.items for v in args.positional if isinstance(v, Items) and v.complete]
    if len(lists) == len(args.positional) and lists:
        whole = min(map(len, lists)) <= limits.ITEMS
        spend(min(map(len, lists)) if whole else limits.ITEMS)
        columns = [items[: limits.ITEMS] for items in lists]
        rows: list[Value] = [Items(Container.TUPLE, list(row)) for row in zip(*columns, strict=False)]
        return Items(Container.LIST, rows, whole, machine.place(node))
    for value, argument in zip(args.positional, node.args, strict=False):
        iteration.consume(machine, value, argument.value, "zip")
    row = Items(Container.TUPLE, [iteration.element(machine, v, node) for v in args.positional])
    iteration.side_by_side(row.items, args.positional)
    return Items(Container.LIST, [row], False, machine.place(node))


@function("builtins.next")
def _next(machine: Machine, args: Arguments, node: tree.Call) -> Value | None:
    if not args.positional:
        return None
    iteration.consume(machine, args.positional[0], node, "next")
    return iteration.element(machine, args.positional[0], node)


@function("builtins.getattr")
def _getattr(machine: Machine, args: Arguments, node: tree.Call) -> Value | None:
    if len(args.positional) < 2:
        return None
    base, name = args.positional[0], args.positional[1]
    if isinstance(name, Constant) and isinstance(name.value, str):
        found = [names.attribute(machine, o, name.value, node) for o in options(base)]
        result = found[0]
        for value in found[1:]:
            result = join(result, value)
        return result
    if isinstance(base, External):
        return External(f"{base.name}.*")
    made = Thing(Opaque(), "", machine.place(node), certain=False)
    made.anything = True
    return made


@function("builtins.setattr")
def _setattr(machine: Machine, args: Arguments, node: tree.Call) -> Value | None:
    name = args.positional[1] if len(args.positional) == 3 else None
    if isinstance(name, Constant) and isinstance(name.value, str):
        value = args.positional[2]
        for thing in things(args.positional[0]):
            assignment.set_attribute(
                machine, node, thing, name.value, value, machine.get(thing.serial, name.value), None
            )
            machine.set(thing.serial, name.value, value)
            if not machine.looking:
                parts.noted(machine, thing, name.value)
                parts.owned(value, thing, name.value)
            access.write(machine, thing, name.value, value, node)
        for option in options(args.positional[0]):
            assignment.patch(machine, option, name.value, value, node)
    elif args.positional:
        for thing in things(args.positional[0]):
            parts.noted(machine, thing, None)
            access.some(machine, thing, "setter", node)
            if isinstance(thing.what, (Tensor, Optimizer, Grad)):
                unknown(machine, node, thing, "setattr")
        if name is not None:
            machine.emit(node, ev.Register(args.positional[0], name=name, value=args.positional[2], how="setattr"))
    return NONE


@function("builtins.delattr")
def _delattr(machine: Machine, args: Arguments, node: tree.Call) -> Value | None:
    name = args.get(1, "name")
    for thing in things(args.get(0, "object")):
        if isinstance(name, Constant) and isinstance(name.value, str):
            assignment.delete_attribute(machine, thing, name.value, node)
            continue
        access.some(machine, thing, "deleter", node)
        if isinstance(thing.what, (Tensor, Optimizer, Grad)):
            unknown(machine, node, thing, "delattr")
    return NONE


@function("builtins.dict", "collections.OrderedDict")
def _dict(machine: Machine, args: Arguments, node: tree.Call) -> Value | None:
    state = only(args.positional[0], StateDict) if len(args.positional) == 1 and not args.keywords else None
    if state is not None:
        return objects.same_state(machine, state, node)
    entries: dict[object, Value] = {k: v for k, v in args.keywords.items()}  # noqa: C416 - for its type
    complete = not args.positional and not args.open
    if args.positional and isinstance(args.positional[0], Items):
        complete = args.positional[0].complete and not args.open
        for pair in args.positional[0].items:
            key, value = pair.items if isinstance(pair, Items) and len(pair.items) == 2 else (None, pair)
            named = isinstance(key, Constant) and isinstance(key.value, (str, int))
            entries[key.value if isinstance(key, Constant) and named else id(value)] = value
            complete = complete and named
    if args.positional and isinstance(args.positional[0], Table):
        source = args.positional[0]
        entries = {**{k: v for k, v in source.entries.items() if k not in source.maybe}, **entries}
        complete = source.complete and not source.maybe
    return objects.table(machine, entries, complete, node)


@function("operator.methodcaller")
def _methodcaller(machine: Machine, args: Arguments, node: tree.Call) -> Value | None:
    name = args.get(0, "name")
    if not isinstance(name, Constant) or not isinstance(name.value, str):
        return None
    made = Thing(Opaque(), name.value, machine.place(node), certain=False, via=MethodCaller(name.value))
    made.origin = "operator.methodcaller"
    return made


@function("functools.partial")
def _partial(machine: Machine, args: Arguments, node: tree.Call) -> Value | None:
    if not args.positional:
        return None
    return Partial(args.positional[0], args.positional[1:], args.keywords)


@function("copy.deepcopy", "copy.copy")
def _deepcopy(machine: Machine, args: Arguments, node: tree.Call) -> Value | None:
    if not args.positional:
        return None
    thing = only(args.positional[0])
    several = things(args.positional[0], Module)
    if thing is None and len(several) == len(options(args.positional[0])):
        thing = several[0]  # a copy of one of several models is another model than any of them
    if thing is None:
        return None
    if (isinstance(node.func, tree.Attribute) and node.func.attr == "copy") or tree.dotted(node.func) == "copy":
        if isinstance(thing.what, StateDict):
            return objects.same_state(machine, thing, node)
        if isinstance(thing.what, Module):  # another object with the same parameters
            made = Thing(Module(), thing.label, machine.place(node), deps=thing.deps, certain=thing.certain)
            made.wraps = thing
            return made
    copied = thing.copy(machine.place(node))
    if isinstance(thing.what, (Module, Opaque)):
        machine.emit(node, ev.Build(copied, args=args, name="copy.deepcopy"))
    return copied


@function("builtins.exit", "builtins.quit", "sys.exit", "os._exit")
def _leave(machine: Machine, args: Arguments, node: tree.Call) -> Value | None:
    machine.sequence.steps.append(tl.Jump(tree.Exit.RAISE, machine.place(node)))
    return NO_RETURN


@function("builtins.type")
def _type(machine: Machine, args: Arguments, node: tree.Call) -> Value | None:
    thing = only(args.positional[0]) if len(args.positional) == 1 and not args.keywords else None
    return thing.cls if thing is not None and thing.certain else None


@function("builtins.len")
def _len(machine: Machine, args: Arguments, node: tree.Call) -> Value | None:
    many = amounts.length(args.get(0, "obj"))
    if many is None:
        return None
    return Thing(Opaque(), "len", machine.place(node), deps=cut_off(depends(*args.all())), certain=False, via=many)


@function("builtins.range", "tqdm.trange", "tqdm.auto.trange")
def _range(machine: Machine, args: Arguments, node: tree.Call) -> Value | None:
    found = args.positional
    many = None
    if len(found) == 1 and not args.open:
        many = amounts.amount(found[0])
    elif len(found) == 2 and not args.open:
        many = amounts.rounds(found[0], found[1])
    made = Thing(Opaque(), "range", machine.place(node), deps=cut_off(depends(*args.all())), certain=False)
    made.via = amounts.Rounds(many)
    return made


@function("builtins.int", "builtins.round", "math.ceil", "math.floor")
def _whole(machine: Machine, args: Arguments, node: tree.Call) -> Value | None:
    value = only(args.positional[0]) if len(args.positional) == 1 else None
    if value is None or not isinstance(value.via, amounts.Amount):
        return None
    return Thing(Opaque(), "", machine.place(node), deps=cut_off(value.deps), certain=False, via=value.via)


@function("builtins.isinstance", "builtins.hasattr")
def _inert(machine: Machine, args: Arguments, node: tree.Call) -> Value | None:
    return Thing(Opaque(), "", machine.place(node), certain=False)
