"""Methods of modules: their parameters, parts, modes, state and hooks."""

from __future__ import annotations

from gradcheck_lint.source import events as ev
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source import torch_api, tree
from gradcheck_lint.source.deps import depends
from gradcheck_lint.source.joins import join
from gradcheck_lint.source.natures import (
    Instance,
    Module,
    Opaque,
    Optimizer,
    Parameters,
    StateDict,
    StateItems,
    Super,
    Tensor,
    Walk,
)
from gradcheck_lint.source.run import iteration, objects, parts, tensors
from gradcheck_lint.source.run.arguments import Arguments
from gradcheck_lint.source.run.holdings import callables
from gradcheck_lint.source.run.library import function, method
from gradcheck_lint.source.run.machine import Machine, Method
from gradcheck_lint.source.run.touch import turns
from gradcheck_lint.source.tree import Container
from gradcheck_lint.source.values import NONE, Constant, Items, Thing, Value, new_serial, only, things


@function(*torch_api.NORMED)
def _normed(machine: Machine, args: Arguments, node: tree.Call) -> Value | None:
    """`weight_norm(module)` and the like: the module, whose weight is computed from new parameters from now on."""
    parts.given(machine, node, args.all())
    return args.get(0, "module")


def _parameters(named: bool) -> Method:
    def parameters(machine: Machine, base: Value, args: Arguments, node: tree.Call) -> Value | None:
        results: list[Value] = []
        for thing in things(base):
            if isinstance(thing.what, Opaque):
                thing.what = Module()
            if not isinstance(thing.what, (Module, Instance, Super)):
                continue
            recurse = args.get(1, "recurse")
            some = recurse is not None or bool(args.positional)
            made = Parameters(thing, kind=Container.GENERATOR, direct=True, named=named, filtered=some)
            results.append(
                iteration.new_iterator(machine, Thing(made, "", machine.place(node), deps=depends(thing)), node)
            )
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
    if thing is None or not isinstance(thing.what, (Module, Opaque)) or not callables(function):
        return None
    part = Thing(
        Module(), "", machine.place(node), deps=depends(thing), parent=(thing, "[]"), summary=True, certain=False
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
    if only(base, StateDict) is None:
        return None
    return Items(
        Container.LIST,
        [Thing(Tensor(True, False, "state_dict"), "state", machine.place(node))],
        False,
        machine.place(node),
    )


@method("modules", "named_modules", "children", "named_children")
def _modules(machine: Machine, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    """model.modules(): the model and all modules in it; model.children() and their like: those right below it."""
    thing, name = only(base, Module), tree.last_name(node.func)
    if thing is None:
        return None
    via = Walk(thing, every=name == "modules")
    return Thing(Opaque(), name, machine.place(node), deps=depends(thing), certain=False, via=via)


def _mode(training: bool) -> Method:
    def mode(machine: Machine, base: Value, args: Arguments, node: tree.Call) -> Value | None:
        flag: bool | None = training
        given = args.get(0, "mode") if training else None
        if given is not None:
            flag = bool(given.value) if isinstance(given, Constant) and given.value is not ... else None
        if not any(isinstance(t.what, (Module, Opaque, Super)) or _has_modes(t) for t in things(base)):
            return None
        machine.emit(node, ev.SetMode(base, training=flag))
        return base

    return mode


def _has_modes(thing: Thing) -> bool:
    """Whether it is an optimizer with a training mode and an evaluation mode."""
    return isinstance(thing.what, Optimizer) and thing.class_name.rpartition(".")[2] in torch_api.WITH_MODES


method("train")(_mode(True))
method("eval")(_mode(False))


@method(*torch_api.COPYING, "to_empty")
def _move(machine: Machine, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    thing = only(base)
    if thing is None:
        return base if things(base) else None
    how = tree.last_name(node.func)
    if isinstance(thing.what, Tensor):
        return tensors.converted(machine, thing, how, args, node)
    if isinstance(thing.what, (Module, Opaque)):
        machine.emit(node, ev.Move(thing, how=how, args=args))
        return thing
    return None


@method("load_state_dict")
def _load_state(machine: Machine, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    machine.emit(node, ev.LoadState(base, state=args.get(0, "state_dict"), args=args))
    return Thing(Opaque(), "", machine.place(node), certain=False)


@method("state_dict")
def _state_dict(machine: Machine, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    thing = only(base)
    if thing is None or isinstance(thing.what, (Instance, Super)):
        return None
    return Thing(StateDict(thing), "", machine.place(node), certain=thing.certain)


@method("items")
def _state_items(machine: Machine, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    """The items of a state dict, of which a comprehension can make another one."""
    thing = only(base, StateDict)
    if thing is None:
        return None
    return Thing(Opaque(), "items", machine.place(node), certain=False, via=StateItems(thing))


@method("copy")
def _state_copy(machine: Machine, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    """A state dict's `.copy()` is another dict of the same tensors."""
    thing = only(base, StateDict)
    return objects.same_state(machine, thing, node) if thing is not None else None


def hook(machine: Machine, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    """A hook may run at any time, unless it is a function of the project that was seen to turn nothing."""
    hooks = callables(args.get(0, "hook"))
    if not hooks or any(turns(machine, hook, node) for hook in hooks):
        machine.emit(node, ev.Hook(base))
    return Thing(Opaque(), "", machine.place(node), certain=False)


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
