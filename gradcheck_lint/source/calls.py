"""What a call does: follow it into the project's code, or know it by its name.

`call` is the interpreter's view of one call expression. Methods of optimizers, models, tensors, scalers and
schedulers become events (`_METHODS`); functions of torch and of Python give the values that they give
(`_FUNCTIONS`); a call of anything else gives an opaque thing, and an `Unknown` event if it may turn the cycle.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Any

from gradcheck_lint.source import access, decorated, frameworks, gradflag, limits, parts, tensors, torch_api, tree
from gradcheck_lint.source import events as ev
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source.effort import spend
from gradcheck_lint.source.holding import regroup
from gradcheck_lint.source.holdings import callables, held
from gradcheck_lint.source.interpret import NONE, Arguments, Interpreter, owner_of, take
from gradcheck_lint.source.touch import (
    EXECUTING,
    absorb,
    bound,
    known,
    made_of,
    python,
    told,
    touch,
    turning,
    turns,
    unknown,
)
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
    cut_off,
    depends,
    join,
    limited,
    new_serial,
    only,
    options,
    passes,
    things,
    tracked,
    united,
    unordered,
)
from gradcheck_lint.source.yields import Running, enumerated, is_generator, running, started

NO_RETURN = External("builtins.NoReturn")


def call(i: Interpreter, node: tree.Call) -> Value:
    """The value of a call; its events are appended to the interpreter's sequence."""
    func = node.func
    if isinstance(func, tree.Name) and func.id == "super" and len(node.args) != 1:
        return _super(i, node)
    if isinstance(func, tree.Attribute):
        base = i.eval(func.value)
        found = [o for o in options(base) if not (isinstance(o, Constant) and o.value is None)] or list(options(base))
        members = [_member(i, option, func.attr, func) for option in found]
        args = i.arguments(node)
        if all(m is None for m in members) and len(found) > 1 and all(isinstance(o, (Items, Table)) for o in found):
            return join_all([_method(i, option, func.attr, args, node) for option in found])
        if all(m is None for m in members):
            return _method(i, base if len(found) > 1 else found[0], func.attr, args, node)

        def method(member: Value | None, option: Value) -> Value:
            if member is not None:
                return apply(i, member, args, node)
            return _method(i, option, func.attr, args, node)

        return _each(i, node, [partial(method, m, o) for m, o in zip(members, found, strict=True)])
    target = i.eval(func)
    args = i.arguments(node)
    found = [o for o in options(target) if not (isinstance(o, Constant) and o.value is None)] or list(options(target))
    return _each(i, node, [partial(apply, i, o, args, node) for o in found])


def join_all(values: list[Value]) -> Value:
    """The value after as many paths meet."""
    result = values[0]
    for value in values[1:]:
        result = join(result, value)
    return result


def _each(i: Interpreter, node: tree.Call, runs: list[Callable[[], Value]]) -> Value:
    """Run the alternatives of a call, as a branch if there are several."""
    if len(runs) == 1:
        return runs[0]()
    results: list[Value] = []

    def arm(run: Callable[[], Value]) -> Callable[[], bool]:
        def go() -> bool:
            results.append(run())
            return False

        return go

    sequences, _ = i.arms([arm(run) for run in runs], node)
    if any(s.steps for s in sequences):
        i.sequence.steps.append(tl.Branch(None, sequences, i.place(node)))
    result = results[0]
    for value in results[1:]:
        result = join(result, value)
    return result


def _super(i: Interpreter, node: tree.Call) -> Value:
    for frame in reversed(i.frames):
        if frame.owner is not None:
            receiver = frame.self if isinstance(frame.self, Thing) else Thing("opaque", "self", certain=False)
            return Thing("super", "super", i.place(node), detail={"owner": frame.owner, "self": receiver})
    return Thing("opaque", "super", i.place(node), certain=False)


def _member(i: Interpreter, base: Value, attr: str, node: tree.Attribute) -> Value | None:
    """What to call for `base.attr(…)`, or None if it is a method known only by its name."""
    if isinstance(base, Thing):
        if base.role == "super":
            return i.super_member(base, attr)
        stored = i.get(base.serial, attr)
        if stored is None and isinstance(base.cls, ClassValue):
            if base.role != "module" or base.cls.member(attr) is None:
                stored_or = i.thing_attribute(base, attr, node)
                if isinstance(stored_or, (FunctionValue, ClassValue, External, Partial)) or (
                    isinstance(stored_or, Thing) and stored_or.role != "opaque"
                ):
                    return stored_or
            else:
                return i.thing_attribute(base, attr, node)
        if stored is None and attr in _METHODS:
            return None
        return stored
    if isinstance(base, (Items, Table, Constant)):
        return None
    return i.attribute(base, attr, node)


# ---------------------------------------------------------------- calling a value


def apply(i: Interpreter, target: Value, args: Arguments, node: tree.Call) -> Value:
    """Call one value."""
    if isinstance(target, FunctionValue):
        return _follow(i, target, args, node)
    if isinstance(target, ClassValue):
        return _instantiate(i, target, args, node)
    if isinstance(target, External):
        return _external(i, target, args, node)
    if isinstance(target, Partial):
        merged = Arguments([*target.args, *args.positional], {**target.keywords, **args.keywords}, args.open)
        return apply(i, target.func, merged, node)
    if isinstance(target, Choice):
        return _each(i, node, [partial(apply, i, o, args, node) for o in target.options])
    if isinstance(target, Thing):
        return _call_thing(i, target, args, node)
    return _opaque(i, tree.last_name(node.func), None, args, node)


def _follow(i: Interpreter, target: FunctionValue, args: Arguments, node: tree.Call) -> Value:
    receiver = target.receiver
    name = target.function.name
    if isinstance(receiver, Thing) and isinstance(receiver.cls, ClassValue) and target.owner is not None:
        overridden = receiver.place is None and any(
            name in child.members for child in i.children.get(receiver.cls.serial, ())
        )
        if overridden or (name != "__init__" and _abstract(i, target.function)):
            i.emit(node, ev.Unknown(None, name=name))
    wrapped = decorated.call(i, target, args, node)
    if wrapped is not None:
        return wrapped
    if target.manages:
        detail = {"manager": Running(target, args), "values": (target, *args.all())}
        deps = depends(receiver, *args.all())
        return Thing("opaque", name, i.place(node), deps=deps, certain=False, detail=detail)
    if is_generator(i, target.function):
        return started(i, Running(target, args), node)
    return i.follow(target, args, node)


def _abstract(i: Interpreter, function: tree.Function) -> bool:
    """A body that only stands for what a subclass does."""
    if not i.relevant(function) and not torch_api.SUSPICIOUS.search(function.name):
        return False
    for statement in function.body:
        if isinstance(statement, tree.Evaluate) and isinstance(statement.value, tree.Constant):
            continue
        return isinstance(statement, tree.Raise) and tree.last_name(statement.value) == "NotImplementedError"
    return True


def _instantiate(i: Interpreter, cls: ClassValue, args: Arguments, node: tree.Call) -> Value:
    thing = i.new_instance(cls, i.place(node))
    thing.label = cls.name
    i.spotted.made(thing)
    made = cls.metaclass.member("__call__") if isinstance(cls.metaclass, ClassValue) else None
    if isinstance(made, FunctionValue):
        i.spotted.note(made)
        return i.follow(made.bind(cls), args, node)
    new = cls.member("__new__")
    if isinstance(new, FunctionValue):
        i.spotted.note(new)
        i.follow(new.bind(cls), args, node)
    thing.detail["args"] = args
    thing.deps = depends(*args.all())
    if thing.role == "optimizer":
        thing.detail.update(name=cls.name, params=args.get(0, "params"), node=node)
        for value in args.all():
            i.consume(value, node, "?")
        given = thing.detail["params"] = parts.picture(thing.detail["params"])
        i.escape(args.all())
        i.emit(node, ev.BuildOptimizer(thing, args=args, name=cls.name, given=given, parts=parts.parts_in(i, given)))
        return thing
    if thing.role == "scheduler":
        thing.detail.update(name=cls.name, optimizer=args.get(0, "optimizer"))
        i.emit(node, ev.Build(thing, args=args, name=cls.name))
        return thing
    if thing.role == "module":
        i.emit(node, ev.Build(thing, args=args, name=cls.name))
        init = cls.member("__init__")
        if isinstance(init, FunctionValue) and i.relevant(init.function):
            i.prepare(thing, node, args)
        elif isinstance(init, FunctionValue):
            parts.may_grow(i, node, held(i, *args.all()), args.all(), init.function)
        return thing
    if cls.member("__init__") is None:
        for name, value in (dict(zip(_fields(cls), args.positional, strict=False)) | args.keywords).items():
            i.set(thing.serial, name, value)
        thing.detail.update(made_of(args.all()))
    i.prepare(thing, node, args)
    if not cls.closed:
        touch(i, cls.name, None, args, node)
    return thing


def _fields(cls: ClassValue) -> list[str]:
    """The annotated names in a class, which `@dataclass` and `NamedTuple` take in this order."""
    found: dict[str, None] = {}
    for base in reversed(list(cls.lineage())):
        for statement in base.node.body if isinstance(base, ClassValue) else ():
            if isinstance(statement, tree.Assign) and statement.annotation is not None:
                found.update((t.id, None) for t in statement.targets if isinstance(t, tree.Name))
    return list(found)


def _call_thing(i: Interpreter, thing: Thing, args: Arguments, node: tree.Call) -> Value:
    if thing.role in ("module", "instance") and isinstance(thing.cls, ClassValue):
        for name in ("forward", "__call__") if thing.role == "module" else ("__call__",):
            member = thing.cls.member(name)
            if isinstance(member, FunctionValue):
                if thing.role == "module":
                    i.emit(node, ev.Forward(thing, args=args))
                before = new_serial()
                result = _follow(i, member.bind(thing), args, node)
                if not tracked(result):
                    return _result(i, thing, args, node)
                if thing.role == "module":
                    _mark(result, _run(i, thing, args, node), before)
                return result
    if thing.role == "module" or (thing.role == "opaque" and thing.detail.get("module")):
        i.emit(node, ev.Forward(thing, args=args))
        return _result(i, thing, args, node)
    method = thing.detail.get("method")
    if isinstance(method, str) and args.positional:  # `operator.methodcaller("zero_grad")`, called
        return _method(i, args.positional[0], method, Arguments([], {}), node)
    if thing.role == "opaque":
        if bound(thing) and thing.parent is not None:  # `clear = optimizer.zero_grad`, then `clear()`
            return _method(i, thing.parent[0], thing.parent[1], args, node)
        return _opaque(i, thing.label, thing, args, node)
    return _result(i, thing, args, node)


def _result(i: Interpreter, thing: Thing, args: Arguments, node: tree.Call) -> Thing:
    """The output of a module: depends on it and on what it was given."""
    deps: frozenset[Thing] = frozenset()
    if not i.frame.context & {"no_grad", "inference_mode"}:
        deps = united(depends(thing, *args.all()), frozenset((thing,)))
    return Thing("opaque", "", i.place(node), deps=united(deps, _run(i, thing, args, node)), certain=False)


def _run(i: Interpreter, thing: Thing, args: Arguments, node: tree.Call) -> frozenset[Thing]:
    """A run of a module that backward can go through."""
    if thing.role != "module" or i.frame.context & {"no_grad", "inference_mode"}:
        return frozenset()
    given = passes(Items("tuple", args.all()))
    return frozenset({Thing("pass", thing.label, i.place(node), detail={"of": thing, "given": given})})


def _mark(value: Value, run: frozenset[Thing], before: int) -> None:
    """Let what a module has computed depend on its run."""
    for option in contents(value):
        if isinstance(option, Thing) and option.role == "opaque" and option.serial > before:
            option.deps = united(option.deps, run)


# ---------------------------------------------------------------- names outside the project


def _external(i: Interpreter, target: External, args: Arguments, node: tree.Call) -> Value:
    name = target.name
    head, _, last = name.rpartition(".")
    if name == "builtins.print" or (known(name) and head != "builtins" and not name.startswith("torch.")):
        for value in args.keywords.values():
            i.spotted.lent(value)  # `print(…, file=x)` calls x.write
    if last in _METHODS and head.startswith("torch.") and head.rpartition(".")[2][:1].isupper() and args.positional:
        rest = Arguments(args.positional[1:], args.keywords, args.open)  # `SGD.zero_grad(optimizer)`
        return _method(i, args.positional[0], last, rest, node)
    function = _FUNCTIONS.get(name)
    if function is not None:
        result = function(i, args, node)
        if result is not None:
            return result
    if name.startswith("torch.") and last.startswith("register_") and last.endswith("_hook"):
        _hook(i, target, args, node)
    role = "optimizer" if name == "torch.optim.*" else torch_api.role_of_class(name)
    if role is not None:
        return _build(i, role, name, args, node)
    if last in ("clip_grad_norm_", "clip_grad_value_", "clip_grad_norm"):
        return _clip(i, args, node)
    if head in ("torch", "builtins") and last in torch_api.FACTORIES:
        return _tensor(i, args, node, last)
    if torch_api.WRAPPERS.search(name) and not frameworks.keeps_the_cycle(name):
        wrapped = _wrap(i, args, node)
        if wrapped is not None:
            return wrapped
    if torch_api.makes_model(name) or last == "from_pretrained":
        thing = Thing("module", last, i.place(node), cls=target, detail={"args": args, "pretrained": True})
        i.emit(node, ev.Build(thing, args=args, name=name))
        return thing
    if (name.startswith("torch.") or head == "builtins") and name not in EXECUTING:
        i.emit(node, ev.TorchCall(name=name, args=args, receiver=None))
        if parts.reshapes(name):
            parts.given(i, node, args.all())
        called = turning(i, args.all(), args, node)
        if called is not None:
            unknown(i, node, called.subject, last)
        for value, argument in zip(args.positional, node.args, strict=False):
            i.consume(value, argument.value, last if last in _USERS else "?")
            if name.startswith("torch.distributed.") or last.endswith("_"):
                _change_grads(i, value, node, name)
        for value in (v for k, v in args.keywords.items() if k == "out"):
            _change_grads(i, value, node, "out=")
        if any(t.detail.get("grad") for a in args.all() for t in things(a, "tensor")):
            return i.computed(node, args.all())
        deps = _flow(i, args)
        smooth = (head != "builtins" and last not in torch_api.NO_GRADIENT) or name == "builtins.sum"
        detail = _origin(i, None, args, name)
        return Thing(
            "opaque", last, i.place(node), deps=deps if smooth else cut_off(deps), certain=False, detail=detail
        )
    return _opaque(i, last, None, args, node, outside=name)


_USERS = frozenset("sum max min parameters_to_vector get_total_norm clip_grads_with_norm_".split())
"""Functions that use up an iterator."""


def _flow(i: Interpreter, args: Arguments) -> frozenset[Thing]:
    if i.frame.context & {"no_grad", "inference_mode"}:
        return frozenset()
    return depends(*args.all())


def _build(i: Interpreter, role: str, name: str, args: Arguments, node: tree.Call) -> Value:
    last = name.rpartition(".")[2]
    if (
        role == "optimizer"
        and not name.startswith("torch.optim.")
        and not args.positional
        and "params" not in args.keywords
    ):
        return _opaque(i, last, None, args, node)
    wrapped = only(args.positional[0], "optimizer") if args.positional else None
    if role == "optimizer" and wrapped is not None:
        return wrapped  # one optimizer around another: Lookahead(Adam(...)), DistributedOptimizer(...)
    thing = Thing(
        role, last, i.place(node), cls=External(name), deps=depends(*args.all()), detail={"args": args, "name": name}
    )
    if role == "optimizer":
        thing.detail.update(params=parts.picture(args.get(0, "params")), node=node)
        found = [option for option in options(thing.detail["params"]) if not _is_none(option)]
        for value in found:
            _consume_all(i, value, node.args[0].value if node.args else node, last if len(found) == 1 else "?")
    elif role == "scheduler":
        thing.detail["optimizer"] = args.get(0, "optimizer")
    elif role == "module":
        parts.composed(thing, args.positional)
    if role == "optimizer":
        given = thing.detail["params"]
        i.emit(node, ev.BuildOptimizer(thing, args=args, name=name, given=given, parts=parts.parts_in(i, given)))
    else:
        i.emit(node, ev.Build(thing, args=args, name=name))
    return thing


def _is_none(value: Value) -> bool:
    return isinstance(value, Constant) and value.value is None


def _consume_all(i: Interpreter, value: Value, node: tree.Node, by: str) -> None:
    """Everything iterable inside the params of an optimizer is used up by it."""
    seen: set[int] = set()
    todo = [value]
    while todo:
        spend(1)
        value = todo.pop()
        i.consume(value, node, by)
        if isinstance(value, (Items, Table)) and id(value) not in seen:
            seen.add(id(value))
            if isinstance(value, Items):
                todo += reversed(value.items)
            elif "params" in value.entries:
                todo.append(value.entries["params"])


def _tensor(i: Interpreter, args: Arguments, node: tree.Call, last: str) -> Value:
    flag = args.keywords.get("requires_grad")
    grad: bool | None = False
    if flag is not None:
        grad = bool(flag.value) if isinstance(flag, Constant) and flag.value is not ... else None
    deps = frozenset() if last in ("tensor", "as_tensor") else _flow(i, args)
    thing = Thing(
        "tensor", last, i.place(node), deps=deps,
        detail={
            "leaf": True, "grad": grad, "args": args, "made_by": last, "device": args.keywords.get("device"),
            "dtype": tensors.dtype_of(last, args),
        },
    )  # fmt: skip
    i.emit(node, ev.Build(thing, args=args, name=f"torch.{last}"))
    return thing


def _parameter(i: Interpreter, args: Arguments, node: tree.Call) -> Value | None:
    flag = args.get(1, "requires_grad")
    grad = True if flag is None else bool(flag.value) if isinstance(flag, Constant) and flag.value is not ... else None
    data = only(args.positional[0], "tensor") if args.positional else None
    known = {key: data.detail.get(key) for key in ("dtype", "device")} if data is not None else {"device": ...}
    detail = {"leaf": True, "grad": grad, "args": args, "made_by": "Parameter", **known}
    thing = Thing("tensor", "Parameter", i.place(node), detail=detail)
    i.emit(node, ev.Build(thing, args=args, name="torch.nn.Parameter"))
    return thing


def _variable(i: Interpreter, args: Arguments, node: tree.Call) -> Value | None:
    flag = args.get(1, "requires_grad")
    if isinstance(flag, Constant) and flag.value is True:
        thing = Thing(
            "tensor",
            "Variable",
            i.place(node),
            detail={"leaf": True, "grad": True, "args": args, "made_by": "Variable"},
        )
        i.emit(node, ev.Build(thing, args=args, name="torch.autograd.Variable"))
        return thing
    if any(gradflag.misspelt(keyword) for keyword in args.keywords):
        i.emit(node, ev.TorchCall(name="torch.autograd.Variable", args=args, receiver=None))
    return args.positional[0] if args.positional else None


def _collect(kind: str) -> Callable[[Interpreter, Arguments, tree.Call], Value | None]:
    """list(x), tuple(x), set(x), sorted(x), reversed(x), iter(x)."""

    def collect(i: Interpreter, args: Arguments, node: tree.Call) -> Value | None:
        if not args.positional:
            return Items("list" if kind == "sorted" else kind, [], True, i.place(node))
        value = args.positional[0]
        called = turning(i, [*args.keywords.values(), *(args.positional if kind == "iter" else ())], args, node)
        if called is not None:
            unknown(i, node, called.subject, kind)
        if kind != "iter":
            i.consume(value, node.args[0].value, kind)
        result: Value | None = None
        for option in options(value):
            made: Value | None = None
            if kind == "iter" and isinstance(option, Thing) and option.detail.get("kind") == "generator":
                result = option if result is None else join(result, option)  # an iterator is its own iterator
                continue
            mixed = kind != "sorted" and (kind == "set" or unordered(option))
            if isinstance(option, Items):
                to = {"sorted": "list", "reversed": "list", "iter": option.kind}.get(kind, kind)
                items, whole = limited(option.items)
                spend(len(items) // 8)
                made = Items(to, list(items), option.complete and whole, i.place(node), unordered=mixed)
            elif isinstance(option, Thing) and option.role == "parameters":
                to = {"sorted": "list", "reversed": "list", "iter": "generator"}.get(kind, kind)
                detail = {**option.detail, "kind": to, "from": option, "how": kind, "unordered": mixed}
                if kind == "sorted" and "parts" in detail:
                    detail = {**detail, "parts": [], "open": True}
                made = i.iterator(Thing("parameters", "", i.place(node), deps=option.deps, detail=detail), node)
            elif isinstance(option, Table):
                made = Items("list", [], False, i.place(node))
            elif kind in ("list", "tuple", "set"):
                made = Items(kind, [i.element(option, node)], False, i.place(node))
            else:
                made = Thing("opaque", "", i.place(node), deps=depends(option), certain=False)
            result = made if result is None else join(result, made)
        return result

    return collect


def _called_on_each(i: Interpreter, args: Arguments, node: tree.Call) -> None:
    """`map(f, …)` and the like call f, now or when somebody takes what comes of it."""
    called = turning(i, args.positional[:1], args, node)
    if called is not None:
        unknown(i, node, called.subject, tree.last_name(node.func))
    for function in callables(args.get(0, "function")):
        if isinstance(function, FunctionValue):
            values = [function, *args.positional[1:]]
            parts.may_grow(i, node, held(i, *values), values, function.function)


def _filter(i: Interpreter, args: Arguments, node: tree.Call) -> Value | None:
    source = args.get(1, "iterable")
    _called_on_each(i, args, node)
    for thing in things(source, "parameters"):
        i.consume(thing, node.args[-1].value, "filter")
        _spelt(i, args.get(0, "function"), i.element(thing, node))
        detail = {
            **thing.detail, "kind": "generator", "filtered": True, "how": "filter", "unordered": unordered(thing),
            "trainable": _asks_for_grad(args.get(0, "function")),
        }  # fmt: skip
        return i.iterator(Thing("parameters", "", i.place(node), deps=thing.deps, detail=detail), node)
    if isinstance(source, Items):
        return Items("generator", source.items, False, i.place(node), unordered=source.unordered)
    return None


def _spelt(i: Interpreter, function: Value | None, element: Value) -> None:
    """Run the lambda of a filter if something in it is nearly called `requires_grad`; else it tells nothing."""
    if isinstance(function, FunctionValue) and function.function.name == "<lambda>":
        names = [n.attr for n in tree.walk_block(function.function.body) if isinstance(n, tree.Attribute)]
        if any(gradflag.misspelt(name) for name in names):
            i.follow(function, Arguments([element], {}), None)


def _asks_for_grad(function: Value | None) -> bool:
    """Whether a function is `lambda p: p.requires_grad`."""
    if not isinstance(function, FunctionValue) or len(function.function.body) != 1:
        return False
    statement = function.function.body[0]
    return isinstance(statement, tree.Return) and tree.last_name(statement.value) == "requires_grad"


def _map(i: Interpreter, args: Arguments, node: tree.Call) -> Value | None:
    for value, argument in zip(args.positional[1:], node.args[1:], strict=False):
        i.consume(value, argument.value, "map")
    _called_on_each(i, args, node)
    return Thing("opaque", "map", i.place(node), deps=depends(*args.all()), certain=False)


def _chain(i: Interpreter, args: Arguments, node: tree.Call) -> Value | None:
    for value, argument in zip(args.positional, node.args, strict=False):
        i.consume(value, argument.value, "chain")
    chained = list(args.positional)
    made = Thing(
        "parameters", "", i.place(node), deps=depends(*chained),
        detail={
            "parts": chained, "kind": "generator", "open": args.open, "how": "chain",
            "unordered": any(unordered(part) for part in chained),
        },
    )  # fmt: skip
    return i.iterator(made, node)


def _float(i: Interpreter, args: Arguments, node: tree.Call) -> Value | None:
    value = args.get(0, "x")
    if isinstance(value, Constant) and value.value in ("inf", "Inf", "infinity"):
        return Constant(math.inf)
    return None


def _enumerate(i: Interpreter, args: Arguments, node: tree.Call) -> Value | None:
    source = args.get(0, "iterable")
    if isinstance(source, Items) and source.complete:
        items, whole = limited(source.items)
        spend(len(items))
        pairs: list[Value] = [Items("tuple", [Constant(n), v]) for n, v in enumerate(items)]
        return Items("list", pairs, whole, i.place(node))
    if source is None:
        return None
    generator = running(source)
    if generator is not None and generator.shape is None:
        return enumerated(i, generator, node)
    i.consume(source, node.args[0].value, "enumerate")
    start = args.get(1, "start")
    index = Thing(
        "opaque",
        "index",
        certain=False,
        detail={"counter": start.value if isinstance(start, Constant) else 0 if start is None else None},
    )
    place = source.place if isinstance(source, Items) else None
    return Items("list", [Items("tuple", [index, i.element(source, node)])], False, place)


def _zip(i: Interpreter, args: Arguments, node: tree.Call) -> Value | None:
    lists = [v.items for v in args.positional if isinstance(v, Items) and v.complete]
    if len(lists) == len(args.positional) and lists:
        whole = min(map(len, lists)) <= limits.ITEMS
        spend(min(map(len, lists)) if whole else limits.ITEMS)
        columns = [items[: limits.ITEMS] for items in lists]
        rows: list[Value] = [Items("tuple", list(row)) for row in zip(*columns, strict=False)]
        return Items("list", rows, whole, i.place(node))
    for value, argument in zip(args.positional, node.args, strict=False):
        i.consume(value, argument.value, "zip")
    return Items("list", [Items("tuple", [i.element(v, node) for v in args.positional])], False, i.place(node))


def _next(i: Interpreter, args: Arguments, node: tree.Call) -> Value | None:
    if not args.positional:
        return None
    i.consume(args.positional[0], node, "next")
    return i.element(args.positional[0], node)


def _getattr(i: Interpreter, args: Arguments, node: tree.Call) -> Value | None:
    if len(args.positional) < 2:
        return None
    base, name = args.positional[0], args.positional[1]
    if isinstance(name, Constant) and isinstance(name.value, str):
        found = [i.attribute(o, name.value, node) for o in options(base)]
        result = found[0]
        for value in found[1:]:
            result = join(result, value)
        return result
    if isinstance(base, External):
        return External(f"{base.name}.*")
    return Thing("opaque", "", i.place(node), certain=False, detail={"anything": True})


def _setattr(i: Interpreter, args: Arguments, node: tree.Call) -> Value | None:
    name = args.positional[1] if len(args.positional) == 3 else None
    if isinstance(name, Constant) and isinstance(name.value, str):
        value = args.positional[2]
        for thing in things(args.positional[0]):
            i.set_attribute(node, thing, name.value, value, i.get(thing.serial, name.value), None)
            i.set(thing.serial, name.value, value)
            parts.noted(thing, name.value)
            parts.owned(value, thing, name.value)
            access.write(i, thing, name.value, value, node)
        for option in options(args.positional[0]):
            i.patch(option, name.value, value, node)
    elif args.positional:
        for thing in things(args.positional[0]):
            parts.noted(thing, None)
            access.some(i, thing, "setter", node)
            if thing.role in ("tensor", "optimizer", "grad"):
                unknown(i, node, thing, "setattr")
        if name is not None:
            i.emit(node, ev.Register(args.positional[0], name=name, value=args.positional[2], how="setattr"))
    return NONE


def _delattr(i: Interpreter, args: Arguments, node: tree.Call) -> Value | None:
    name = args.get(1, "name")
    for thing in things(args.get(0, "object")):
        if isinstance(name, Constant) and isinstance(name.value, str):
            i.delete_attribute(thing, name.value, node)
            continue
        access.some(i, thing, "deleter", node)
        if thing.role in ("tensor", "optimizer", "grad"):
            unknown(i, node, thing, "delattr")
    return NONE


def _dict(i: Interpreter, args: Arguments, node: tree.Call) -> Value | None:
    state = only(args.positional[0], "state-dict") if len(args.positional) == 1 and not args.keywords else None
    if state is not None:
        return i.same_state(state, node)
    entries: dict[object, Value] = {k: v for k, v in args.keywords.items()}  # noqa: C416 - for its type
    complete = not args.positional and not args.open
    if args.positional and isinstance(args.positional[0], Items):
        for pair in args.positional[0].items:
            value = pair.items[-1] if isinstance(pair, Items) and pair.items else pair
            entries[id(value)] = value
    if args.positional and isinstance(args.positional[0], Table):
        source = args.positional[0]
        entries = {**{k: v for k, v in source.entries.items() if k not in source.maybe}, **entries}
        complete = source.complete and not source.maybe
    return i.table(entries, complete, node)


def _methodcaller(i: Interpreter, args: Arguments, node: tree.Call) -> Value | None:
    name = args.get(0, "name")
    if not isinstance(name, Constant) or not isinstance(name.value, str):
        return None
    detail = {"method": name.value, "origin": "operator.methodcaller"}
    return Thing("opaque", name.value, i.place(node), certain=False, detail=detail)


def _partial(i: Interpreter, args: Arguments, node: tree.Call) -> Value | None:
    if not args.positional:
        return None
    return Partial(args.positional[0], args.positional[1:], args.keywords)


def _deepcopy(i: Interpreter, args: Arguments, node: tree.Call) -> Value | None:
    if not args.positional:
        return None
    thing = only(args.positional[0])
    if thing is None:
        return None
    detail = {key: value for key, value in thing.detail.items() if key != "owners"}  # the copy is nobody's part yet
    detail["copy_of"] = thing
    copied = Thing(thing.role, "", i.place(node), cls=thing.cls, detail=detail, certain=thing.certain)
    copied.ready = True
    if thing.role in ("module", "opaque"):
        i.emit(node, ev.Build(copied, args=args, name="copy.deepcopy"))
    return copied


def _autograd_backward(i: Interpreter, args: Arguments, node: tree.Call) -> Value | None:
    loss = args.get(0, "tensors")
    _emit_backward(i, node, loss, args, scaled=any(t.role == "loss-scaled" for t in things(loss)))
    return NONE


def _leave(i: Interpreter, args: Arguments, node: tree.Call) -> Value | None:
    i.sequence.steps.append(tl.Jump("raise", i.place(node)))
    return NO_RETURN


def _wrap(i: Interpreter, args: Arguments, node: tree.Call) -> Value | None:
    """Wrappers give back what they were given: one thing, or a tuple of them."""
    given = args.positional or list(args.keywords.values())
    wrapped: list[Value] = []
    for value in given:
        thing = only(value)
        if thing is not None and thing.role == "module":
            wrapped.append(
                Thing(
                    "module",
                    thing.label,
                    i.place(node),
                    cls=None,
                    deps=thing.deps,
                    detail={"wraps": thing},
                    certain=thing.certain,
                )
            )
        else:
            wrapped.append(value)
    if not any(t.role in ("module", "optimizer") for v in given for t in things(v)):
        if len(wrapped) == 1:
            return wrapped[0]
        return None
    name = tree.last_name(node.func)
    if name.startswith("wrap"):
        parts.given(i, node, given)
    if len(wrapped) == 1 or name in (
        "DataParallel",
        "DistributedDataParallel",
        "DDP",
        "FullyShardedDataParallel",
        "FSDP",
        "compile",
        "fully_shard",
        "DistributedOptimizer",
        "convert_sync_batchnorm",
        "script",
        "prepare_model",
    ):
        return wrapped[0]
    return Items("tuple", wrapped, bool(args.positional), i.place(node))


def _normed(i: Interpreter, args: Arguments, node: tree.Call) -> Value | None:
    """`weight_norm(module)` and the like: the module, whose weight is computed from new parameters from now on."""
    parts.given(i, node, args.all())
    return args.get(0, "module")


def _inert(i: Interpreter, args: Arguments, node: tree.Call) -> Value | None:
    return Thing("opaque", "", i.place(node), certain=False)


_FUNCTIONS: dict[str, Callable[[Interpreter, Arguments, tree.Call], Value | None]] = {
    "builtins.list": _collect("list"),
    "builtins.tuple": _collect("tuple"),
    "builtins.set": _collect("set"),
    "builtins.frozenset": _collect("set"),
    "builtins.sorted": _collect("sorted"),
    "builtins.reversed": _collect("reversed"),
    "builtins.iter": _collect("iter"),
    "builtins.filter": _filter,
    "builtins.map": _map,
    "builtins.enumerate": _enumerate,
    "builtins.float": _float,
    "builtins.zip": _zip,
    "builtins.next": _next,
    "builtins.getattr": _getattr,
    "builtins.setattr": _setattr,
    "builtins.delattr": _delattr,
    "builtins.dict": _dict,
    "builtins.exit": _leave,
    "builtins.quit": _leave,
    "sys.exit": _leave,
    "os._exit": _leave,
    "builtins.isinstance": _inert,
    "builtins.hasattr": _inert,
    "itertools.chain": _chain,
    "itertools.chain.from_iterable": _map,
    "functools.partial": _partial,
    "operator.methodcaller": _methodcaller,
    "copy.deepcopy": _deepcopy,
    "copy.copy": _deepcopy,
    "torch.device": lambda i, args, node: Thing("opaque", "device", i.place(node), certain=False),
    "torch.nn.Parameter": _parameter,
    "torch.autograd.Variable": _variable,
    **dict.fromkeys(torch_api.NORMED, _normed),
    "torch.autograd.backward": _autograd_backward,
    "tqdm.tqdm": lambda i, args, node: args.get(0, "iterable"),
    "tqdm.auto.tqdm": lambda i, args, node: args.get(0, "iterable"),
    "tqdm.trange": _inert,
}


# ---------------------------------------------------------------- methods known by name


def _method(i: Interpreter, base: Value, attr: str, args: Arguments, node: tree.Call) -> Value:
    """A method of a thing that is no code of the project."""
    if isinstance(node.func, tree.Attribute):
        i.spelling(node.func, base, called=True)
    method = _METHODS.get(attr)
    if method is None and attr.startswith("register_") and attr.endswith("_hook"):
        method = _hook
    if method is not None:
        result = method(i, base, args, node)
        if result is not None:
            return result
    thing = only(base)
    receiver = next(iter(things(base)), None)
    if isinstance(base, Items):
        return _items_method(i, base, attr, args, node)
    if isinstance(base, Table):
        return _table_method(i, base, attr, args, node)
    if thing is not None and thing.role == "parameters" and attr in ("append", "extend") and args.positional:
        more = args.positional[0]
        if attr == "extend":
            i.consume(more, node.args[0].value, attr)
        i.lengthen(thing, more)
        return NONE
    if thing is not None and attr in _LIST_WRITING and thing.role in ("groups", "group-params"):
        regroup(thing)
    if thing is not None and thing.role == "state-dict" and attr in ("update", "__setitem__"):
        thing.detail["rewritten"] = True
    if isinstance(base, External):
        return _external(i, External(torch_api.canonical(f"{base.name}.{attr}")), args, node)
    if torch_api.WRAPPERS.search(f".{attr}") and any(
        t.role in ("module", "optimizer") for a in args.all() for t in things(a)
    ):
        wrapped = _wrap(i, args, node)
        if wrapped is not None:
            return wrapped
    if thing is not None and thing.role == "grad" and attr.endswith("_"):
        i.change_grad(thing, node)
    if thing is not None and thing.role == "tensor" and attr.endswith("_"):
        thing.detail["written"] = True
    elif thing is not None and thing.role == "tensor" and thing.detail.get("grad"):
        return i.computed(node, [thing, *args.all()])
    return _opaque(i, attr, receiver, args, node)


_LIST_WRITING = frozenset({"append", "extend", "insert", "remove", "pop", "clear", "sort", "reverse"})


def _items_method(i: Interpreter, base: Items, attr: str, args: Arguments, node: tree.Call) -> Value:
    if attr in ("append", "add") and args.positional:
        base.items.append(args.positional[0])
    elif attr in ("extend", "update") and args.positional:
        value = args.positional[0]
        i.consume(value, node.args[0].value, attr)
        if isinstance(value, Items):
            more, whole = limited(value.items)
            room = len(base.items) + len(more) <= max(limits.ITEMS, len(base.items) + 1)
            base.items += more[: None if room else max(0, limits.ITEMS - len(base.items))]
            base.complete = base.complete and value.complete and whole and room
            spend(len(more) // 8)
        else:
            base.items.append(i.element(value, node))
            base.complete = False
    elif attr in ("insert", "remove", "pop", "clear", "discard", "reverse", "sort"):
        called = turning(i, list(args.keywords.values()), args, node)
        if called is not None:
            unknown(i, node, called.subject, attr)
        base.complete = False
        if attr == "pop":
            return i.element(base, node)
        if attr == "insert" and len(args.positional) == 2:
            base.items.append(args.positional[1])
    elif attr == "copy":
        items, whole = limited(base.items)
        return Items(base.kind, list(items), base.complete and whole, base.place)
    if i.looping and attr in ("append", "add", "extend", "update"):
        base.complete = False
    return NONE if attr not in ("index", "count") else Constant(...)


def _table_method(i: Interpreter, base: Table, attr: str, args: Arguments, node: tree.Call) -> Value:
    if attr in ("values", "items", "keys"):
        whole = len(base.entries) <= limits.ITEMS
        spend(len(base.entries) if whole else limits.ITEMS)
        found: list[Value] = []
        for k, v in islice(base.entries.items(), limits.ITEMS):
            made = Constant(k) if attr != "values" else v
            found.append(Items("tuple", [made, v]) if attr == "items" else made)
        return Items("list", found, base.complete and whole, base.place)
    key = args.get(0, "key")
    if attr in ("get", "pop", "setdefault") and isinstance(key, Constant):
        entry = base.entries.get(key.value)
        if attr == "pop":
            base.entries.pop(key.value, None)
        if entry is not None:
            return entry
        if base.complete:
            return args.get(1, "default") or NONE
    if attr == "update":
        other = args.get(0, "other")
        taken = take(base.entries, other.entries) if isinstance(other, Table) else True
        base.complete = take(base.entries, args.keywords) and taken and base.complete
        if i.depth > base.depth:
            base.complete = False
            base.maybe.update(args.keywords, other.entries if isinstance(other, Table) else ())
        base.complete = base.complete and (other is None or (isinstance(other, Table) and other.complete))
        return NONE
    if attr not in ("copy",):
        base.complete = base.complete and attr in ("get", "keys")
    return Thing("opaque", attr, i.place(node), deps=depends(*base.entries.values()), certain=False)


_ENGINE = re.compile(r"(?i)accelerat|fabric|engine|trainer|strategy|optim|self|manager|deepspeed|scaler|backend|plugin")


def _emit_backward(
    i: Interpreter, node: tree.Call, loss: Value | None, args: Arguments, scaled: bool, engine: bool = False
) -> None:
    retain = args.keywords.get("retain_graph")
    i.emit(
        node,
        ev.Backward(
            loss, scaled=scaled, engine=engine,
            retain=retain, inputs=args.keywords.get("inputs"), create_graph=args.keywords.get("create_graph"),
        ),
    )  # fmt: skip


def _backward(i: Interpreter, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    thing = next(iter(things(base)), None)
    label = thing.label if thing is not None else ""
    role = thing.role if thing is not None else ""
    if isinstance(base, External):
        return None
    if args.positional and (role in ("optimizer", "module", "instance", "super", "scaler") or _ENGINE.search(label)):
        for wrapper in things(base, "optimizer"):  # no optimizer of torch has a backward: its step may clear as well
            wrapper.detail["wrapper"] = True
        _emit_backward(i, node, args.positional[0], args, scaled=False, engine=True)
    else:
        scaled = [t.role == "loss-scaled" for t in things(base)]
        unsure = (any(scaled) and not all(scaled)) or any(t.detail.get("maybe") for t in things(base))
        _emit_backward(i, node, base, args, scaled=all(scaled) and bool(scaled) and not unsure, engine=unsure)
    return NONE


def _manual_backward(i: Interpreter, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    _emit_backward(i, node, args.get(0, "loss"), args, scaled=False, engine=True)
    return NONE


def _zero_grad(i: Interpreter, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    for thing in things(base):
        if thing.role == "opaque":
            thing.detail["module"] = True
    i.emit(node, ev.Zero(base, how="zero_grad"))
    return NONE


def _step(i: Interpreter, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    thing = next(iter(things(base)), None)
    if thing is None:
        return None
    if thing.role == "optimizer":
        closure = args.get(0, "closure")
        followed = closure if isinstance(closure, FunctionValue) else None
        if followed is not None:
            i.sequence.steps.append(_in_closure(i, followed, node))
        i.emit(node, ev.Step(base, scaler=None, closure=closure, called=_called(i, node), args=args))
        return Thing("opaque", "", i.place(node), certain=False)
    if thing.role == "scaler" and args.positional:
        scaler = None if _switched_off(thing) else base
        i.emit(node, ev.Step(args.positional[0], scaler=scaler, closure=None, args=args))
        return Thing("opaque", "", i.place(node), certain=False)
    if thing.role == "scheduler":
        i.emit(node, ev.Schedule(base, args=args))
        return NONE
    if thing.role in ("module", "opaque") and re.search(r"(?i)engine|model", thing.label):
        i.emit(node, ev.Unknown(None, name="step"))
        return NONE
    if thing.role in ("instance", "super"):
        i.emit(node, ev.Unknown(None, name="step"))
        return NONE
    return None


def _switched_off(scaler: Thing) -> bool:
    """Whether it was built with `enabled=False`, and does nothing."""
    args = scaler.detail.get("args")
    flag = args.keywords.get("enabled") if isinstance(args, Arguments) else None
    return isinstance(flag, Constant) and flag.value is False


def _called(i: Interpreter, node: tree.Call) -> Value | None:
    """The function that `step(f(x))` calls to get its argument."""
    given = node.args[0].value if node.args else None
    if isinstance(given, tree.Call) and tree.dotted(given.func):
        return i.eval(given.func)
    return None


def _in_closure(i: Interpreter, closure: FunctionValue, node: tree.Call) -> tl.Sequence:
    saved, i.sequence = i.sequence, tl.Sequence()
    made = i.sequence
    i.follow(closure, Arguments([], {}), node)
    i.sequence = saved
    return made


def _unscale(i: Interpreter, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    if not any(_switched_off(t) for t in things(base)):
        i.emit(node, ev.Unscale(args.get(0, "optimizer"), scaler=base))
    return NONE


def _update(i: Interpreter, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    if any(t.role == "scaler" for t in things(base)):
        i.emit(node, ev.Update(base))
        return NONE
    return None


def _scale(i: Interpreter, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    if not args.positional:
        return None
    value = args.positional[0]
    if all(t.role == "opaque" and t.detail.get("parameter") for t in things(base)) and things(base):
        # a parameter that may be a scaler
        return Thing("loss-scaled", "", i.place(node), deps=depends(value), detail={"maybe": True}, certain=False)
    if not any(t.role == "scaler" for t in things(base)):
        return None
    if any(_switched_off(t) for t in things(base)):
        return value
    return Thing(
        "loss-scaled", "", i.place(node), deps=depends(value), detail={"of": value, "scaler": base}, certain=False
    )


def _parameters(named: bool) -> Callable[[Interpreter, Value, Arguments, tree.Call], Value | None]:
    def parameters(i: Interpreter, base: Value, args: Arguments, node: tree.Call) -> Value | None:
        results: list[Value] = []
        for thing in things(base):
            if thing.role == "opaque":
                thing.role = "module"
            if thing.role not in ("module", "instance", "super"):
                continue
            recurse = args.get(1, "recurse")
            made = Thing(
                "parameters", "", i.place(node), deps=depends(thing),
                detail={
                    "of": thing, "kind": "generator", "named": named, "how": "parameters",
                    "filtered": recurse is not None or bool(args.positional),
                },
            )  # fmt: skip
            results.append(i.iterator(made, node))
        if not results:
            return None
        result = results[0]
        for value in results[1:]:
            result = join(result, value)
        return result

    return parameters


def _apply(i: Interpreter, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    """model.apply(f) calls f with each module in the model."""
    thing = only(base)
    function = args.get(0, "fn")
    if thing is None or thing.role not in ("module", "opaque") or not callables(function):
        return None
    part = Thing("module", "", i.place(node), deps=depends(thing), parent=(thing, "[]"), summary=True, certain=False)
    saved, i.sequence = i.sequence, tl.Sequence()
    body, start = i.sequence, new_serial()
    for called in callables(function):
        apply(i, called, Arguments([part], {}), node)
    i.sequence = saved
    if body.steps:
        i.sequence.steps.append(tl.Loop(body, node, i.place(node), start=start))
    return base


def _values(i: Interpreter, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    """state.values() of a state dict: tensors that are cut off from the parameters."""
    if only(base, "state-dict") is None:
        return None
    detail = {"leaf": True, "grad": False, "made_by": "state_dict"}
    return Items("list", [Thing("tensor", "state", i.place(node), detail=detail)], False, i.place(node))


def _modules(i: Interpreter, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    """model.modules(): the model and all modules in it; model.children() and their like: those right below it."""
    thing, name = only(base, "module"), tree.last_name(node.func)
    if thing is None:
        return None
    detail = {"parts_of": thing, **({"modules_of": thing} if name == "modules" else {})}
    return Thing("opaque", name, i.place(node), deps=depends(thing), certain=False, detail=detail)


def _mode(training: bool) -> Callable[[Interpreter, Value, Arguments, tree.Call], Value | None]:
    def mode(i: Interpreter, base: Value, args: Arguments, node: tree.Call) -> Value | None:
        flag: bool | None = training
        given = args.get(0, "mode") if training else None
        if given is not None:
            flag = bool(given.value) if isinstance(given, Constant) and given.value is not ... else None
        if not any(t.role in ("module", "opaque", "super") for t in things(base)):
            return None
        i.emit(node, ev.SetMode(base, training=flag))
        return base

    return mode


def _move(i: Interpreter, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    thing = only(base)
    if thing is None:
        return base if things(base) else None
    how = tree.last_name(node.func)
    if thing.role == "tensor":
        return tensors.converted(i, thing, how, args, node)
    if thing.role in ("module", "opaque"):
        i.emit(node, ev.Move(thing, how=how, args=args))
        return thing
    return None


def _detached(i: Interpreter, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    thing = only(base)
    if thing is not None and thing.role == "grad" and tree.last_name(node.func) == "detach":
        return thing  # the same values
    if thing is not None and thing.role in ("tensor",):
        detail = {"leaf": True, "grad": False, "made_by": "detach", "from": thing}
        return Thing("tensor", thing.label, i.place(node), summary=thing.summary, detail=detail)
    if isinstance(base, External):
        return None
    return Thing("opaque", "", i.place(node), certain=False)


def _copied(i: Interpreter, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    """x.clone(), x.view(…) and the like: a tensor computed from x."""
    thing, how = only(base), tree.last_name(node.func)
    if thing is None or thing.role not in ("tensor", "opaque"):
        return None
    if thing.role == "tensor":
        return tensors.derived(i, thing, node, how, leaf=None if how == "contiguous" else False)
    if how != "clone":
        return None
    detail = {"leaf": None, "grad": None, "made_by": how}
    return Thing("tensor", thing.label, i.place(node), deps=thing.deps, summary=thing.summary, detail=detail)


def _requires_grad(i: Interpreter, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    flag = args.get(0, "requires_grad")
    value: bool | None = True
    if flag is not None:
        value = bool(flag.value) if isinstance(flag, Constant) and flag.value is not ... else None
    sole = only(base) is not None

    def write(thing: Thing) -> None:
        owner = owner_of(thing)
        i.emit(node, ev.Freeze(owner, value=value, how="requires_grad_", thing=thing, parts=parts.parts_in(i, owner)))
        if thing.role == "tensor":
            tensors.now_requires_grad(thing, value if sole else None)

    i.whichever(base, node, write)
    return base


def _zero_(i: Interpreter, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    i.whichever(base, node, lambda thing: i.zero_grad_of(thing, node, "grad.zero_()") if thing.role == "grad" else None)
    return base if things(base) else None


def _fill_(i: Interpreter, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    return _overwritten(i, base, args.get(0, "value"), node)


def _write_(i: Interpreter, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    return _overwritten(i, base, None, node) if things(base, "grad") else None


def _overwritten(i: Interpreter, base: Value, value: Value | None, node: tree.Call) -> Value | None:
    """Each element of the tensor gets another value, whatever it was before."""
    for thing in things(base):
        if thing.role == "grad":
            i.overwrite_grad(thing, node, value)
        elif thing.role == "tensor":
            thing.detail["written"] = True
    return base if things(base) else None


def _mul_(i: Interpreter, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    factor = args.get(0, "other")
    if isinstance(factor, Constant) and factor.value == 0 and things(base, "grad"):
        return _zero_(i, base, args, node)
    return None


def _same_grad(i: Interpreter, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    """p.grad.detach_(), p.grad.data …: still the gradient; anything else is cut off from its graph in place."""
    for thing in things(base):
        thing.deps = cut_off(thing.deps)
        if thing.role == "tensor":
            thing.detail.update(leaf=True, grad=False)
    return base if things(base, "grad") else None


def _add_group(i: Interpreter, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    group = parts.picture(args.get(0, "param_group"))
    for thing in things(base):
        if group is not None:
            thing.detail.setdefault("added", []).append(group)
    i.emit(node, ev.AddGroup(base, group=group, parts=parts.parts_in(i, group)))
    return NONE


def _load_state(i: Interpreter, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    i.emit(node, ev.LoadState(base, state=args.get(0, "state_dict"), args=args))
    return Thing("opaque", "", i.place(node), certain=False, detail={"load_result": base})


def _state_dict(i: Interpreter, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    thing = only(base)
    if thing is None or thing.role in ("instance", "super"):
        return None
    return Thing("state-dict", "", i.place(node), detail={"of": thing}, certain=thing.certain)


def _state_items(i: Interpreter, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    """The items of a state dict, of which a comprehension can make another one."""
    thing = only(base, "state-dict")
    if thing is None:
        return None
    return Thing("opaque", "items", i.place(node), detail={"items_of": thing}, certain=False)


def _state_copy(i: Interpreter, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    """A state dict's `.copy()` is another dict of the same tensors."""
    thing = only(base, "state-dict")
    return i.same_state(thing, node) if thing is not None else None


def _hook(i: Interpreter, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    """A hook may run at any time, unless it is a function of the project that was seen to turn nothing."""
    hooks = callables(args.get(0, "hook"))
    if not hooks or any(turns(i, hook, node) for hook in hooks):
        i.emit(node, ev.Hook(base))
    return Thing("opaque", "", i.place(node), certain=False)


def _resize(i: Interpreter, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    """model.resize_token_embeddings(n) gives the model another embedding."""
    i.emit(node, ev.TorchCall(name="resize_token_embeddings", args=args, receiver=base))
    parts.given(i, node, [base])
    return Thing("opaque", "", i.place(node), deps=depends(base), certain=False)


def _register(how: str) -> Callable[[Interpreter, Value, Arguments, tree.Call], Value | None]:
    def register(i: Interpreter, base: Value, args: Arguments, node: tree.Call) -> Value | None:
        name = args.get(0, "name")
        value = args.get(1, {"parameter": "param", "buffer": "tensor"}.get(how, how))
        i.emit(node, ev.Register(base, name=name, value=value, how=how))
        if isinstance(name, Constant) and isinstance(name.value, str) and value is not None:
            for thing in things(base):
                i.set(thing.serial, name.value, value)
                if how != "buffer":
                    parts.noted(thing, name.value)
                    parts.owned(value, thing, name.value)
        elif how != "buffer":
            for thing in things(base):
                parts.noted(thing, None)
        return NONE

    return register


def _clip(i: Interpreter, args: Arguments, node: tree.Call) -> Value:
    parameters = args.get(0, "parameters")
    found = [option for option in options(parameters) if not _is_none(option)]
    for value in found:
        _consume_all(i, value, node.args[0].value if node.args else node, "clip" if len(found) == 1 else "?")
    statement = i.frame.statement
    used = not (isinstance(statement, tree.Evaluate) and statement.value is node)
    i.emit(node, ev.Clip(parameters, norm=args.get(1, "max_norm"), used=used))
    return Thing("opaque", "", i.place(node), certain=False)


def _clip_method(i: Interpreter, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    if isinstance(base, External):
        return None
    thing = next(iter(things(base)), None)
    for value in args.positional[:1]:
        i.consume(value, node.args[0].value, "clip")
    if thing is not None and thing.role == "module":
        i.emit(node, ev.Clip(base, norm=args.get(0, "max_norm"), used=True, engine=True))
    else:
        i.emit(node, ev.Clip(args.get(0, "parameters"), norm=args.get(1, "max_norm"), used=True, engine=True))
    return Thing("opaque", "", i.place(node), certain=False)


_COPIES = frozenset(
    "clone contiguous view reshape squeeze unsqueeze permute transpose t flatten repeat expand flip".split()
)
"""Methods that copy a tensor, or look at it in another shape."""

OVERWRITING = frozenset(
    "copy_ set_ normal_ uniform_ random_ bernoulli_ cauchy_ exponential_ geometric_ log_normal_".split()
)
"""Methods that give each element of a tensor a value that does not depend on the one before."""

_METHODS: dict[str, Callable[[Interpreter, Value, Arguments, tree.Call], Value | None]] = {
    "backward": _backward,
    "manual_backward": _manual_backward,
    "zero_grad": _zero_grad,
    "step": _step,
    "unscale_": _unscale,
    "update": _update,
    "scale": _scale,
    "parameters": _parameters(False),
    **dict.fromkeys(("modules", "named_modules", "children", "named_children"), _modules),
    "values": _values,
    "named_parameters": _parameters(True),
    "train": _mode(True),
    "eval": _mode(False),
    "requires_grad_": _requires_grad,
    "detach": _detached,
    **dict.fromkeys(_COPIES, _copied),
    "item": _detached,
    "tolist": _detached,
    "numpy": _detached,
    "zero_": _zero_,
    "fill_": _fill_,
    **dict.fromkeys(OVERWRITING, _write_),
    "mul_": _mul_,
    "detach_": _same_grad,
    "add_param_group": _add_group,
    "resize_token_embeddings": _resize,
    "load_state_dict": _load_state,
    "state_dict": _state_dict,
    "items": _state_items,
    "copy": _state_copy,
    "register_buffer": _register("buffer"),
    "register_parameter": _register("parameter"),
    "register_module": _register("module"),
    "add_module": _register("module"),
    "apply": _apply,
    "clip_grad_norm_": _clip_method,
    "clip_grad_value_": _clip_method,
    "clip_gradients": _clip_method,
    **dict.fromkeys(torch_api.COPYING, _move),
    "to_empty": _move,
}


# ---------------------------------------------------------------- calls of unknown code


def _opaque(
    i: Interpreter,
    name: str,
    receiver: Thing | None,
    args: Arguments,
    node: tree.Call,
    outside: str = "",
) -> Value:
    """A call that cannot be followed."""
    touch(i, name, receiver, args, node, outside)
    if not known(outside):
        for value in args.all():
            i.spotted.given(value)
    absorb(receiver, name, args)
    i.escape(args.all())
    if not told(name, receiver) and (parts.reshapes(outside) if known(outside) else not parts.looks(name)):
        parts.given(i, node, [receiver, *args.all()])
    owner = parts.holder(receiver) if receiver is not None and name in _PUTTING else None
    if owner is not None:
        for value in contents(Items("list", args.all())):
            parts.owned(value, owner, "")
    if receiver is not None and receiver.role == "module":
        receiver.root.detail.setdefault("escaped", new_serial())
    for value in args.all():
        i.consume(value, node, "?")
        if not torch_api.READING.search(name):
            _change_grads(i, value, node)
    made = receiver.deps if receiver is not None else frozenset()
    smooth = name in torch_api.SMOOTH if not isinstance(node.func, tree.Name) else False
    if not smooth:
        made = cut_off(made)
    if receiver is not None and receiver.role in ("module", "optimizer", "scaler"):
        made = united(made, frozenset((receiver,)))
    deps: frozenset[Thing] = frozenset()
    if not i.frame.context & {"no_grad", "inference_mode"}:
        deps = united(made, _through(name, args, smooth))
    return Thing("opaque", name, i.place(node), deps=deps, certain=False, detail=_origin(i, receiver, args, outside))


_PUTTING = frozenset(
    {"append", "insert", "extend", "update", "setdefault", "set_submodule", "__setattr__", "__setitem__"}
)
"""Methods of modules, and of their dicts, that put what they are given into them."""


def _origin(i: Interpreter, receiver: Thing | None, args: Arguments, outside: str) -> dict[str, Any]:
    """What is known of a thing that unseen code made: which package did, or what it may hold."""
    origin = outside or (receiver.detail.get("origin", "") if receiver is not None else "")
    if outside in EXECUTING:
        return {"anything": True}
    if known(origin):
        kept = args.all() if python(origin) else [v for v in args.all() if callables(v)]
        return {"origin": origin, **made_of(kept)}
    if receiver is not None and receiver.detail.get("anything"):
        return {"anything": True}
    held_by = [receiver] if receiver is not None and receiver.role == "opaque" and "values" in receiver.detail else []
    return made_of([*held_by, *args.all()])


_OVERWRITES = re.compile(
    r"^out=$|^torch\.nn\.init\.|^torch\._foreach_(?:copy|zero)_$"
    r"|^torch\.distributed\.\w*(?:broadcast|recv|scatter|gather)"
)
"""Functions of torch after which nothing is left of the values that the gradients had which they are handed."""


def _change_grads(i: Interpreter, value: Value, node: tree.Call, name: str = "") -> None:
    """Gradients are handed to a function of torch, or to code that cannot be seen, which may fill them."""
    for thing in held(i, value).things.values():
        if thing.role != "grad":
            continue
        if name.endswith(("zero_", "zeros_")):
            i.zero_grad_of(thing, node, name)
        elif _OVERWRITES.search(name):
            i.overwrite_grad(thing, node, None)
        else:
            i.change_grad(thing, node)


def _through(name: str, args: Arguments, smooth: bool) -> frozenset[Thing]:
    """What the arguments of a call of unknown code bring: backward goes through a criterion, whatever it may be."""
    deps = depends(*args.all())
    return deps if smooth or torch_api.CRITERION_NAME.search(name) else cut_off(deps)
