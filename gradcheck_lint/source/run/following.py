"""Follows a call into the code of the project, with the arguments that it is given."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace

from gradcheck_lint.laws.mode import OFF
from gradcheck_lint.source import events as ev
from gradcheck_lint.source import limits, tree
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source.deps import cut_off, depends
from gradcheck_lint.source.effort import Stop, spend
from gradcheck_lint.source.joins import join, tracked
from gradcheck_lint.source.natures import Module, Opaque, Parameters, nature
from gradcheck_lint.source.operations import How
from gradcheck_lint.source.place import Place
from gradcheck_lint.source.run import iteration, looked, made, objects, parts, shape, unseen
from gradcheck_lint.source.run.arguments import Arguments
from gradcheck_lint.source.run.generators import Yielding
from gradcheck_lint.source.run.holdings import Holdings, callables, handed, held
from gradcheck_lint.source.run.machine import Frame, Machine
from gradcheck_lint.source.run.touch import made_of, unknown
from gradcheck_lint.source.tree import Container
from gradcheck_lint.source.values import NONE, ClassValue, Constant, FunctionValue, Items, Table, Thing, Value, only


def follow(
    machine: Machine,
    target: FunctionValue,
    args: Arguments | None,
    node: tree.Node | None,
    *,
    forced: bool = False,
    yielding: Yielding | None = None,
) -> Value:
    """Run a function of the project in place; args None stands for unknown ones."""
    function = target.function
    matters, sight, found = True, None, None
    if args is not None:
        active = sum([f.function is function for f in machine.frames]) > (2 if _counts(args) else 0)
        times = machine.followed.get(id(function), 0)
        machine.followed[id(function)] = times + 1
        plain = target.receiver is None and all(_plain(a) for a in args.all())
        if plain and id(function) in machine.idle and not held(machine, target):
            result = Thing(Opaque(), function.name, machine.place(node) if node is not None else None, certain=False)
            return _unfollowed(machine, result, target, args, node)
        far = (
            active
            or times >= limits.REPEATS
            or machine.steps > machine.budget // 2
            or len(machine.frames) > limits.DEPTH
        )
        heavy = (
            machine.costs.get(id(function), 0) > limits.HEAVY
            or machine.lengthy.get(id(function), 0) >= machine.lengthy_calls
        )
        if heavy or not (far or forced or yielding is not None):
            matters, sight, found = _can_matter(machine, target, args)
            matters = matters or (machine.optimizes and node is not None and _reshapes(machine, target, found))
        if heavy and matters:
            far = True
            if machine.timeline is not None and id(function) in machine.acting:
                machine.timeline.cut = machine.timeline.skipped = True
        if far or (yielding is None and not forced and not matters):
            result = Thing(Opaque(), function.name, machine.place(node) if node is not None else None, certain=False)
            result.deps = cut_off(depends(target.receiver, *args.all()))
            result.values = made_of(args.all())
            unseen.escape(args.all())
            if node is not None:
                for value in args.all():
                    iteration.consume(machine, value, node, "?")
            _not_seen_in_full(machine, target)
            if node is not None and far:
                spend(20)
                found = handed(machine, target, args.all()) if found is None else found
                _out_of_sight(machine, target, args, node, found)
            if node is not None and machine.trains and function.name not in ("forward", "__call__"):
                found = handed(machine, target, args.all()) if found is None else found
                parts.may_grow(machine, node, found, [target.receiver, *args.all()], function)
            return _unfollowed(machine, result, target, args, node)
    spend(20)
    machine.reached.add(id(function))
    body = function.body
    home = target.home
    frame = Frame(home, home.chunks.get(id(function)) or machine.chunk_of[id(function)], function, target.scope)
    frame.owner, frame.self = target.owner, target.receiver
    frame.yielding = yielding
    machine.parents[frame.serial] = target.scope
    if machine.frames:
        outer = machine.frame.context
        frame.context = outer - {"try"} if "try" in outer else outer  # the same set again: events keep it
    saved = machine.sequence
    machine.sequence = tl.Sequence()
    inner = machine.sequence
    before, turned_before, switched_before = machine.steps, machine.turned, machine.switched
    acted_before = machine.acted
    machine.frames.append(frame)
    try:
        _bind(machine, function, target, args)
        for decorator in function.decorators:
            name = tree.last_name(decorator)
            if name in OFF:
                frame.context |= {name}
        ended = machine.run(body)
    except Stop:
        inside = node is not None and len(machine.frames) > 1
        place = Place(machine.frames[-2].chunk, node) if inside and node is not None else Place(frame.chunk, function)
        machine.cut_short(saved, tl.Call(inner, function, place))
        raise
    finally:
        machine.frames.pop()
        machine.sequence = saved
        took = machine.steps - before
        machine.costs[id(function)] = machine.costs.get(id(function), 0) + took
        if took > limits.LENGTHY:
            machine.lengthy[id(function)] = machine.lengthy.get(id(function), 0) + 1
    machine.leave(frame)
    turned, cleared = machine.turned - turned_before, True
    if turned > len(frame.again):
        machine.turning.add(id(function))
        if machine.acted > acted_before:
            machine.acting.add(id(function))
        if id(function) not in machine.clearing:
            cleared = tl.clears(inner)
            if cleared:
                machine.clearing.add(id(function))
    else:
        for sequence, event in frame.again:
            sequence.steps.remove(event)  # it calls itself, and turns nothing
    switched = machine.switched > switched_before
    if switched:
        machine.switching.add(id(function))
    returns: list[Value] = frame.returns or [NONE]
    if sight is not None and not (turned or switched) and not any(tracked(r) for r in returns):
        machine.quiet.add(sight)
    if not any(not isinstance(s, tl.Jump) for s in inner.steps):
        if args is not None and target.receiver is None and all(_plain(a) for a in args.all()):
            machine.idle.add(id(function))
    elif inner.steps:
        place = (
            Place(machine.frame.chunk, node) if node is not None and machine.frames else Place(frame.chunk, function)
        )
        if yielding is not None and yielding.around:
            saved.steps.append(inner)  # a jump in the body of a `with` leaves more than the context manager
        else:
            saved.steps.append(tl.Call(inner, function, place, cleared))
    if not ended and frame.returns:
        returns = [*frame.returns, NONE]
    result_value = returns[0]
    for value in returns[1:]:
        result_value = join(result_value, value)
    return result_value


def _unfollowed(
    machine: Machine, result: Thing, target: FunctionValue, args: Arguments, node: tree.Node | None
) -> Value:
    """What a call gives that was not followed, with what is known of how it came to be."""
    if node is None or not machine.frames:
        return result
    name, given, keywords = target.function.name, args.positional, args.keywords
    inner = looked.look(machine, target, args, node)
    return made.note(machine, result, How.CODE, name, given, node, base=target, keywords=keywords, inner=inner)


def _can_matter(machine: Machine, target: FunctionValue, args: Arguments) -> tuple[bool, Hashable, Holdings | None]:
    """Whether a call can matter: by the function's text, or by what it is handed or holds.

    With it, where its text says nothing, what its events and the identity of its result can depend on, and what it
    is handed or holds.
    """
    if machine.trying or machine.looking or machine.relevant(target.function):
        return True, None, None
    if not machine.trains:
        return False, None, None
    found = handed(machine, target, args.all())
    if not found:
        return False, None, found
    sight = id(target.function), found.key, tuple(args.keywords)
    return found.anything or sight not in machine.quiet, sight, found


def _not_seen_in_full(machine: Machine, target: FunctionValue) -> None:
    """What is not followed may give parts to its object, or to those whose constructors call it."""
    making = [f.self for f in machine.frames if f.function is not None and f.function.name == "__init__"]
    for thing in (target.receiver, *making):
        if isinstance(thing, Thing) and thing.serial in machine.births:
            machine.partial.add(thing.serial)


def _reshapes(machine: Machine, target: FunctionValue, found: Holdings | None) -> bool:
    """Whether a function puts new parts into a model that it is given or belongs to, where an optimizer may hold it."""
    known = machine.putting.get(id(target.function))
    if known is None:
        known = machine.putting[id(target.function)] = parts.puts_new(target.function)
    receiver = target.receiver
    method = isinstance(receiver, Thing) and isinstance(receiver.what, Module) and target.function.name != "__init__"
    return known and (method or (found is not None and any(isinstance(t.what, Module) for t in found.things.values())))


def _out_of_sight(machine: Machine, target: FunctionValue, args: Arguments, node: tree.Node, found: Holdings) -> None:
    """A call that is not followed any more may turn the cycle, unless it was seen not to."""
    function = target.function
    if not found and not machine.relevant(function):
        return
    if id(function) in machine.switching:
        machine.emit(node, ev.SetMode(found.subject, training=None))
    receiver = target.receiver
    module = receiver if isinstance(receiver, Thing) and isinstance(receiver.what, Module) else None
    if module is not None and function.name == "forward" and not machine.may_turn(function):
        if not found.optimizers:
            return  # a forward pass computes, unless something speaks for more
    for frame in machine.frames:
        # whether it turns anything shows when the call under way is over
        if frame.function is function and not _counts(args):
            frame.again.append((machine.sequence, unknown(machine, node, found.subject, function.name)))
            return
    tried = id(function) in machine.reached and not any(callables(value) for value in args.all())
    if tried and id(function) not in machine.turning and not found.optimizers:
        return
    event = unknown(machine, node, found.subject, function.name)
    event.clears = id(function) in machine.clearing


def _bind(machine: Machine, function: tree.Function, target: FunctionValue, args: Arguments | None) -> None:
    scope = machine.frame.serial
    parameters = list(function.parameters)
    positional = list(args.positional) if args is not None else []
    surely = args.sure if args is not None else 0
    spend(len(parameters) + len(positional))
    if target.receiver is not None and parameters and shape.method_kind(function) != "static":
        first = parameters.pop(0)
        machine.set(scope, first.name, target.receiver)
    for parameter in parameters:
        if parameter.star == "*":
            rest = Items(Container.TUPLE, positional, args is not None and not args.open)
            machine.set(scope, parameter.name, rest)
            positional = []
            continue
        if parameter.star == "**":
            entries: dict[object, Value] = {}
            if args is not None:
                known = {p.name for p in parameters}
                entries = {k: v for k, v in args.keywords.items() if k not in known}
            machine.set(scope, parameter.name, Table(entries, args is not None and not args.open))
            continue
        value: Value | None = None
        if args is not None:
            if positional and surely > 0:
                value = positional.pop(0)
                surely -= 1
            elif parameter.name in args.keywords:
                value = args.keywords[parameter.name]
            elif parameter.default is not None and not args.open:
                value = machine.eval(parameter.default)
        if value is None:
            value = objects.unknown_parameter(parameter)
            if args is not None and args.open:
                value.values = made_of(args.all())
        else:
            value = _as_annotated(value, parameter)
            objects.name_thing(value, parameter.name)
        machine.set(scope, parameter.name, value)


def prepare(machine: Machine, thing: Thing, node: tree.Node | None, args: Arguments | None = None) -> None:
    """Interpret the `__init__` of an instance, once, when something of it is asked for."""
    if not isinstance(thing.cls, ClassValue) or (thing.ready and (not machine.looking or thing in machine.unready)):
        return
    init = thing.cls.member("__init__")
    if machine.looking:
        if thing.ready and (not isinstance(init, FunctionValue) or machine.relevant(init.function)):
            return  # what it makes is there for all
        machine.unready[thing] = thing.ready
    thing.ready = True
    if isinstance(init, FunctionValue):
        if sum(1 for f in machine.frames if f.function is init.function) or len(machine.frames) > limits.DEPTH:
            return
        saved = machine.sequence
        later: dict[str, Constant] = {}
        if args is None and machine.frames:
            machine.sequence = tl.Sequence()  # asked for long after it was made: these events are past
            later = _flags(machine, thing)
        if args is None:
            args = thing.args
        _run_init(machine, init.bind(thing), args, node)
        machine.sequence = saved
        for name, value in later.items():
            machine.set(thing.serial, name, value)


def _flags(machine: Machine, thing: Thing) -> dict[str, Constant]:
    """The settings that an object was given before its `__init__` is gone through: they were made after that."""
    known = {name: machine.get(thing.serial, name) for name in machine.names_of.get(thing.serial, ())}
    return {name: value for name, value in known.items() if isinstance(value, Constant)}


def _run_init(machine: Machine, init: FunctionValue, args: Arguments | None, node: tree.Node | None) -> None:
    receiver, making = init.receiver, machine.making
    if making is None and isinstance(receiver, Thing) and isinstance(receiver.what, Module):
        machine.making = receiver.serial
    before = machine.steps
    if isinstance(receiver, Thing):
        machine.births[receiver.serial] = (machine.depth, machine.looping)
    try:
        machine.follow(init, args, node)
    finally:
        machine.making = making
    if machine.steps == before and isinstance(receiver, Thing):
        del machine.births[receiver.serial]  # it was not followed


def _as_annotated(value: Value, parameter: tree.Parameter) -> Value:
    """What a parameter is bound to: `parameters()` of an unknown object is a list where the function asks for one."""
    if tree.last_name(parameter.annotation).lower() not in ("sequence", "list", "tuple", "collection"):
        return value
    thing = only(value, Parameters)
    given = nature(thing, Parameters)
    if thing is None or given is None or not given.direct or given.of is None or given.of.core.certain:
        return value
    listed = Thing(replace(given, kind=Container.LIST), thing.label, thing.place, deps=thing.deps, certain=False)
    listed.bound = thing.bound
    return listed


def _plain(value: Value) -> bool:
    """Nothing whose identity matters."""
    return isinstance(value, Constant) or (
        isinstance(value, Thing) and isinstance(value.what, Opaque) and not value.deps
    )


def _counts(args: Arguments) -> bool:
    """Whether a call that calls itself counts something down, so that it does not do the same each time."""
    return any(isinstance(value, Constant) for value in args.all())
