"""Methods of modules: their parameters, parts, modes, state and hooks."""

from __future__ import annotations

from gradcheck_lint.source import events as ev
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source import torch_api, tree
from gradcheck_lint.source.run import iteration, objects, parts, tensors
from gradcheck_lint.source.run.arguments import Arguments
from gradcheck_lint.source.run.holdings import callables
from gradcheck_lint.source.run.library import function, method
from gradcheck_lint.source.run.machine import Machine, Method
from gradcheck_lint.source.run.touch import turns
from gradcheck_lint.source.values import NONE, Constant, Items, Thing, Value, depends, join, new_serial, only, things


@function(*torch_api.NORMED)
def _normed(machine: Machine, args: Arguments, node: tree.Call) -> Value | None:
    """`weight_norm(module)` and the like: the module, whose weight is computed from new parameters from now on."""
    parts.given(machine, node, args.all())
    return args.get(0, "module")


def _parameters(named: bool) -> Method:
    def parameters(machine: Machine, base: Value, args: Arguments, node: tree.Call) -> Value | None:
        results: list[Value] = []
        for thing in things(base):
            if thing.role == "opaque":
                thing.role = "module"
            if thing.role not in ("module", "instance", "super"):
                continue
            recurse = args.get(1, "recurse")
            made = Thing(
                "parameters", "", machine.place(node), deps=depends(thing),
                detail={
                    "of": thing, "kind": "generator", "named": named, "how": "parameters",
                    "filtered": recurse is not None or bool(args.positional),
                },
            )  # fmt: skip
            results.append(iteration.new_iterator(machine, made, node))
        if not results:
            return None
        result = results[0]
        for value in results[1:]:
            result = join(result, value)
        return result

    return parameters


method("parameters")(_parameters(False))
method("named_parameters")(_parameters(True))


@method("apply")
def _apply(machine: Machine, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    """model.apply(f) calls f with each module in the model."""
    thing = only(base)
    function = args.get(0, "fn")
    if thing is None or thing.role not in ("module", "opaque") or not callables(function):
        return None
    part = Thing(
        "module", "", machine.place(node), deps=depends(thing), parent=(thing, "[]"), summary=True, certain=False
    )
    saved, machine.sequence = machine.sequence, tl.Sequence()
    body, start = machine.sequence, new_serial()
    for called in callables(function):
        machine.call(called, Arguments([part], {}), node)
    machine.sequence = saved
    if body.steps:
        machine.sequence.steps.append(tl.Loop(body, node, machine.place(node), start=start))
    return base


@method("values")
def _values(machine: Machine, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    """state.values() of a state dict: tensors that are cut off from the parameters."""
    if only(base, "state-dict") is None:
        return None
    detail = {"leaf": True, "grad": False, "made_by": "state_dict"}
    return Items("list", [Thing("tensor", "state", machine.place(node), detail=detail)], False, machine.place(node))


@method("modules", "named_modules", "children", "named_children")
def _modules(machine: Machine, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    """model.modules(): the model and all modules in it; model.children() and their like: those right below it."""
    thing, name = only(base, "module"), tree.last_name(node.func)
    if thing is None:
        return None
    detail = {"parts_of": thing, **({"modules_of": thing} if name == "modules" else {})}
    return Thing("opaque", name, machine.place(node), deps=depends(thing), certain=False, detail=detail)


def _mode(training: bool) -> Method:
    def mode(machine: Machine, base: Value, args: Arguments, node: tree.Call) -> Value | None:
        flag: bool | None = training
        given = args.get(0, "mode") if training else None
        if given is not None:
            flag = bool(given.value) if isinstance(given, Constant) and given.value is not ... else None
        if not any(t.role in ("module", "opaque", "super") for t in things(base)):
            return None
        machine.emit(node, ev.SetMode(base, training=flag))
        return base

    return mode


method("train")(_mode(True))
method("eval")(_mode(False))


@method(*torch_api.COPYING, "to_empty")
def _move(machine: Machine, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    thing = only(base)
    if thing is None:
        return base if things(base) else None
    how = tree.last_name(node.func)
    if thing.role == "tensor":
        return tensors.converted(machine, thing, how, args, node)
    if thing.role in ("module", "opaque"):
        machine.emit(node, ev.Move(thing, how=how, args=args))
        return thing
    return None


@method("load_state_dict")
def _load_state(machine: Machine, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    machine.emit(node, ev.LoadState(base, state=args.get(0, "state_dict"), args=args))
    return Thing("opaque", "", machine.place(node), certain=False, detail={"load_result": base})


@method("state_dict")
def _state_dict(machine: Machine, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    thing = only(base)
    if thing is None or thing.role in ("instance", "super"):
        return None
    return Thing("state-dict", "", machine.place(node), detail={"of": thing}, certain=thing.certain)


@method("items")
def _state_items(machine: Machine, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    """The items of a state dict, of which a comprehension can make another one."""
    thing = only(base, "state-dict")
    if thing is None:
        return None
    return Thing("opaque", "items", machine.place(node), detail={"items_of": thing}, certain=False)


@method("copy")
def _state_copy(machine: Machine, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    """A state dict's `.copy()` is another dict of the same tensors."""
    thing = only(base, "state-dict")
    return objects.same_state(machine, thing, node) if thing is not None else None


def hook(machine: Machine, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    """A hook may run at any time, unless it is a function of the project that was seen to turn nothing."""
    hooks = callables(args.get(0, "hook"))
    if not hooks or any(turns(machine, hook, node) for hook in hooks):
        machine.emit(node, ev.Hook(base))
    return Thing("opaque", "", machine.place(node), certain=False)


def _register(how: str) -> Method:
    def register(machine: Machine, base: Value, args: Arguments, node: tree.Call) -> Value | None:
        name = args.get(0, "name")
        value = args.get(1, {"parameter": "param", "buffer": "tensor"}.get(how, how))
        machine.emit(node, ev.Register(base, name=name, value=value, how=how))
        if isinstance(name, Constant) and isinstance(name.value, str) and value is not None:
            for thing in things(base):
                machine.set(thing.serial, name.value, value)
                if how != "buffer":
                    parts.noted(thing, name.value)
                    parts.owned(value, thing, name.value)
        elif how != "buffer":
            for thing in things(base):
                parts.noted(thing, None)
        return NONE

    return register


method("register_buffer")(_register("buffer"))
method("register_parameter")(_register("parameter"))
method("register_module", "add_module")(_register("module"))
