"""A call expression: what is called, with which arguments, and what comes of that."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from gradcheck_lint.laws.mode import OFF
from gradcheck_lint.source import events as ev
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source import torch_api, tree
from gradcheck_lint.source.deps import depends, passes, united
from gradcheck_lint.source.effort import Stop
from gradcheck_lint.source.joins import join, merged, tracked
from gradcheck_lint.source.natures import (
    Instance,
    Manager,
    MethodCaller,
    Module,
    ModuleLike,
    Opaque,
    Optimizer,
    Pass,
    Running,
    Scheduler,
    Super,
)
from gradcheck_lint.source.operations import How
from gradcheck_lint.source.run import (
    decorated,
    generators,
    initial,
    iteration,
    looked,
    made,
    names,
    objects,
    parts,
    unseen,
)
from gradcheck_lint.source.run.arguments import Arguments
from gradcheck_lint.source.run.holdings import held
from gradcheck_lint.source.run.machine import Machine
from gradcheck_lint.source.run.touch import bound, made_of, touch
from gradcheck_lint.source.tree import Container
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
    contents,
    limited,
    new_serial,
    options,
)


def eval_call(machine: Machine, node: tree.Call) -> Value:
    machine.steps += 1
    if machine.steps > machine.budget:
        raise Stop
    return call(machine, node)


def _arguments(machine: Machine, node: tree.Call) -> Arguments:
    positional: list[Value] = []
    keywords: dict[str, Value] = {}
    open, sure = False, None
    for argument in node.args:
        value = machine.eval(argument.value)
        if argument.star == "*":
            if isinstance(value, Items) and value.complete:
                more, whole = limited(value.items)
                if value.loose and sure is None:
                    sure = len(positional)
                positional += more
                open = open or not whole
            else:
                sure = len(positional) if sure is None else sure
                positional.append(merged([value]))
                open = True
        elif argument.star == "**":
            if isinstance(value, Table):
                known = {str(k): v for k, v in value.entries.items() if k not in value.maybe}
                open = not objects.take(keywords, known) or open or not value.complete or bool(value.maybe)
            else:
                open = True
                keywords.setdefault("**", value)
        elif argument.keyword is not None:
            keywords[argument.keyword] = value
        else:
            positional.append(value)
    return Arguments(positional, keywords, open, sure)


def call(machine: Machine, node: tree.Call) -> Value:
    """The value of a call; its events are appended to the machine's sequence."""
    func = node.func
    if isinstance(func, tree.Name) and func.id == "super" and len(node.args) != 1:
        return _super(machine, node)
    if isinstance(func, tree.Attribute):
        base = machine.eval(func.value)
        found = [o for o in options(base) if not (isinstance(o, Constant) and o.value is None)] or list(options(base))
        members = [_member(machine, option, func.attr, func) for option in found]
        args = _arguments(machine, node)
        if func.attr == "forward":
            _forward_by_name(machine, found, node)
        if len(found) == 1 and members[0] is not None:  # most calls of a method that the project has
            return apply(machine, members[0], args, node)
        if all(m is None for m in members) and len(found) > 1 and all(isinstance(o, (Items, Table)) for o in found):
            return objects.join_all([_method(machine, option, func.attr, args, node) for option in found])
        if all(m is None for m in members):
            return _method(machine, base if len(found) > 1 else found[0], func.attr, args, node)

        def method(member: Value | None, option: Value) -> Value:
            if member is not None:
                return apply(machine, member, args, node)
            return _method(machine, option, func.attr, args, node)

        return _each(machine, node, [partial(method, m, o) for m, o in zip(members, found, strict=True)])
    target = machine.eval(func)
    args = _arguments(machine, node)
    found = [o for o in options(target) if not (isinstance(o, Constant) and o.value is None)] or list(options(target))
    if len(found) == 1:
        return apply(machine, found[0], args, node)
    return _each(machine, node, [partial(apply, machine, o, args, node) for o in found])


def _forward_by_name(machine: Machine, found: list[Value], node: tree.Call) -> None:
    """Tell of `net.forward(…)`, where `net` is another module than the one whose method this is."""
    for option in found:
        if isinstance(option, Thing) and isinstance(option.what, Module) and option is not machine.frame.self:
            machine.emit(node, ev.ForwardCall(option))


def _method(machine: Machine, base: Value, attr: str, args: Arguments, node: tree.Call) -> Value:
    """Call a method that is no code of the project."""
    if machine.looping and machine.trains and attr in _LISTING:
        machine.emit(node, ev.Keep(base, value=args.positional[-1] if _LISTING[attr] and args.positional else None))
    result = machine.library.method(machine, base, attr, args, node)
    if attr.endswith("_") and attr not in _FLAGS and not attr.startswith("_"):
        made.written(machine, base, attr, args.positional, node)
    return made.note(machine, result, How.METHOD, attr, args.positional, node, base=base, keywords=args.keywords)


_LISTING = {**dict.fromkeys(("append", "add", "insert"), True), "pop": False, "popleft": False, "clear": False}
"""Methods of lists, each with whether it puts something in or takes it out."""

_FLAGS = frozenset({"requires_grad_", "detach_", "share_memory_", "retain_grad_"})
"""Methods in place that put no values into a tensor."""


def _each(machine: Machine, node: tree.Call, runs: list[Callable[[], Value]]) -> Value:
    """Run the alternatives of a call, as a branch if there are several."""
    if len(runs) == 1:
        return runs[0]()
    results: list[Value] = []

    def arm(run: Callable[[], Value]) -> Callable[[], bool]:
        def go() -> bool:
            results.append(run())
            return False

        return go

    sequences, _ = machine.arms([arm(run) for run in runs], node)
    if any(s.steps for s in sequences):
        machine.sequence.steps.append(tl.Branch(None, sequences, machine.place(node)))
    result = results[0]
    for value in results[1:]:
        result = join(result, value)
    return result


def _super(machine: Machine, node: tree.Call) -> Value:
    for frame in reversed(machine.frames):
        if frame.owner is not None:
            receiver = frame.self if isinstance(frame.self, Thing) else Thing(Opaque(), "self", certain=False)
            return Thing(Super(frame.owner, receiver), "super", machine.place(node))
    return Thing(Opaque(), "super", machine.place(node), certain=False)


def _member(machine: Machine, base: Value, attr: str, node: tree.Attribute) -> Value | None:
    """What to call for `base.attr(…)`, or None if it is a method known only by its name."""
    if isinstance(base, Thing):
        if isinstance(base.what, Super):
            return names.super_member(base, attr)
        stored = machine.get(base.serial, attr)
        if stored is None and isinstance(base.cls, ClassValue):
            if not isinstance(base.what, Module) or base.cls.member(attr) is None:
                stored_or = names.thing_attribute(machine, base, attr, node)
                if isinstance(stored_or, (FunctionValue, ClassValue, External, Partial)) or (
                    isinstance(stored_or, Thing) and not isinstance(stored_or.what, Opaque)
                ):
                    return stored_or
            else:
                return names.thing_attribute(machine, base, attr, node)
        if stored is None and attr in machine.library.methods:
            return None
        return stored
    if isinstance(base, (Items, Table, Constant)):
        return None
    return names.attribute(machine, base, attr, node)


def apply(machine: Machine, target: Value, args: Arguments, node: tree.Call) -> Value:
    """Call one value."""
    if isinstance(target, FunctionValue):
        return _follow(machine, target, args, node)
    if isinstance(target, ClassValue):
        return _instantiate(machine, target, args, node)
    if isinstance(target, External):
        result = machine.library.outside(machine, target, args, node)
        return made.note(machine, result, How.FUNCTION, target.name, args.positional, node, keywords=args.keywords)
    if isinstance(target, Partial):
        merged = Arguments([*target.args, *args.positional], {**target.keywords, **args.keywords}, args.open)
        return apply(machine, target.func, merged, node)
    if isinstance(target, Choice):
        return _each(machine, node, [partial(apply, machine, o, args, node) for o in target.options])
    if isinstance(target, Thing):
        return _call_thing(machine, target, args, node)
    return unseen.opaque(machine, tree.last_name(node.func), None, args, node)


def _follow(machine: Machine, target: FunctionValue, args: Arguments, node: tree.Call) -> Value:
    receiver = target.receiver
    name = target.function.name
    if machine.loaded and name not in ("__init__", "forward"):
        initial.called(machine, target, args, node)
    if isinstance(receiver, Thing) and isinstance(receiver.cls, ClassValue) and target.owner is not None:
        overridden = receiver.place is None and any(
            name in child.members for child in machine.children.get(receiver.cls.serial, ())
        )
        if overridden or (name != "__init__" and _abstract(machine, target.function)):
            machine.emit(node, ev.Unknown(None, name=name))
    wrapped = decorated.call(machine, target, args, node)
    if wrapped is not None:
        return wrapped
    if target.manages:
        deps, values, via = depends(receiver, *args.all()), (target, *args.all()), Manager(Running(target, args))
        return Thing(Opaque(), name, machine.place(node), deps=deps, certain=False, values=values, via=via)
    if generators.is_generator(machine, target.function):
        return generators.started(machine, Running(target, args), node)
    return machine.follow(target, args, node)


def _abstract(machine: Machine, function: tree.Function) -> bool:
    """A body that only stands for what a subclass does."""
    if not machine.relevant(function) and not torch_api.SUSPICIOUS.search(function.name):
        return False
    for statement in function.body:
        if isinstance(statement, tree.Evaluate) and isinstance(statement.value, tree.Constant):
            continue
        return isinstance(statement, tree.Raise) and tree.last_name(statement.value) == "NotImplementedError"
    return True


def _instantiate(machine: Machine, cls: ClassValue, args: Arguments, node: tree.Call) -> Value:
    thing = objects.new_instance(cls, machine.place(node))
    thing.label = cls.name
    machine.spotted.made(thing)
    maker = cls.metaclass.member("__call__") if isinstance(cls.metaclass, ClassValue) else None
    if isinstance(maker, FunctionValue):
        machine.spotted.note(maker)
        return machine.follow(maker.bind(cls), args, node)
    new = cls.member("__new__")
    if isinstance(new, FunctionValue):
        machine.spotted.note(new)
        machine.follow(new.bind(cls), args, node)
    thing.args = args
    thing.deps = depends(*args.all())
    if isinstance(thing.what, Optimizer):
        for value in args.all():
            iteration.consume(machine, value, node, "?")
        given = thing.what.params = parts.picture(args.get(0, "params"))
        unseen.escape(args.all())
        machine.emit(
            node, ev.BuildOptimizer(thing, args=args, name=cls.name, given=given, parts=parts.parts_in(machine, given))
        )
        return thing
    if isinstance(thing.what, Scheduler):
        thing.what.optimizer = args.get(0, "optimizer")
        machine.emit(node, ev.Build(thing, args=args, name=cls.name))
        return thing
    if isinstance(thing.what, Module):
        machine.emit(node, ev.Build(thing, args=args, name=cls.name))
        init = cls.member("__init__")
        if isinstance(init, FunctionValue) and machine.relevant(init.function):
            machine.prepare(thing, node, args)
        elif isinstance(init, FunctionValue):
            parts.may_grow(machine, node, held(machine, *args.all()), args.all(), init.function)
        return thing
    if cls.member("__init__") is None:
        for name, value in (dict(zip(_fields(cls), args.positional, strict=False)) | args.keywords).items():
            machine.set(thing.serial, name, value)
        thing.values = made_of(args.all()) or thing.values
    machine.prepare(thing, node, args)
    if not cls.closed:
        touch(machine, cls.name, None, args, node)
    return thing


def _fields(cls: ClassValue) -> list[str]:
    """The annotated names in a class, which `@dataclass` and `NamedTuple` take in this order."""
    found: dict[str, None] = {}
    for base in reversed(list(cls.lineage())):
        for statement in base.node.body if isinstance(base, ClassValue) else ():
            if isinstance(statement, tree.Assign) and statement.annotation is not None:
                found.update((t.id, None) for t in statement.targets if isinstance(t, tree.Name))
    return list(found)


def _call_thing(machine: Machine, thing: Thing, args: Arguments, node: tree.Call) -> Value:
    core = thing.core  # a wrapper runs what it wraps
    if isinstance(thing.what, (Module, Instance)) and isinstance(core.cls, ClassValue):
        for name in ("forward", "__call__") if isinstance(thing.what, Module) else ("__call__",):
            member = core.cls.member(name)
            if isinstance(member, FunctionValue):
                if isinstance(thing.what, Module):
                    machine.emit(node, ev.Forward(thing, args=args))
                before = new_serial()
                method = member.bind(core)
                result = _follow(machine, method, args, node)
                if not tracked(result):
                    seen = looked.again(machine, method, args, node)
                    return _result(machine, thing, args, node, result if seen is None else seen)
                if isinstance(thing.what, Module):
                    _mark(result, _run(machine, thing, args, node), before)
                return result
    if isinstance(thing.what, (Module, ModuleLike)):
        machine.emit(node, ev.Forward(thing, args=args))
        return _result(machine, thing, args, node)
    if isinstance(thing.via, MethodCaller) and args.positional:  # `operator.methodcaller("zero_grad")`, called
        return _method(machine, args.positional[0], thing.via.name, Arguments([], {}), node)
    if isinstance(thing.what, Opaque):
        if bound(thing) and thing.parent is not None:  # `clear = optimizer.zero_grad`, then `clear()`
            return _method(machine, thing.parent[0], thing.parent[1], args, node)
        result = unseen.opaque(machine, thing.label, thing, args, node)
        return made.note(
            machine, result, How.CALL, thing.label, args.positional, node, base=thing, keywords=args.keywords
        )
    return _result(machine, thing, args, node)


def _result(machine: Machine, thing: Thing, args: Arguments, node: tree.Call, inner: Value | None = None) -> Value:
    """The output of a module: depends on it and on what it was given; `inner` is what `forward` gave, if followed."""
    deps: frozenset[Thing] = frozenset()
    if not machine.frame.context & OFF:
        deps = united(depends(thing, *args.all()), frozenset((thing,)))
    deps = united(deps, _run(machine, thing, args, node))
    output = Thing(Opaque(), "", machine.place(node), deps=deps, certain=False)
    keywords = args.keywords
    return made.note(
        machine, output, How.CALL, thing.label, args.positional, node, base=thing, keywords=keywords, inner=inner
    )


def _run(machine: Machine, thing: Thing, args: Arguments, node: tree.Call) -> frozenset[Thing]:
    """A run of a module that backward can go through."""
    if not isinstance(thing.what, Module) or machine.frame.context & OFF:
        return frozenset()
    given = passes(Items(Container.TUPLE, args.all()))
    return frozenset({Thing(Pass(thing, given), thing.label, machine.place(node))})


def _mark(value: Value, run: frozenset[Thing], before: int) -> None:
    """Let what a module has computed depend on its run."""
    for option in contents(value):
        if isinstance(option, Thing) and isinstance(option.what, Opaque) and option.serial > before:
            option.deps = united(option.deps, run)
