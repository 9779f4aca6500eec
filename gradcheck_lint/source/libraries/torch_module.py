"""Methods of modules: their parameters, parts, modes, state and hooks."""

from __future__ import annotations

from gradcheck_lint.source import events as ev
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source import torch_api, tree
from gradcheck_lint.source.deps import depends
from gradcheck_lint.source.joins import join
from gradcheck_lint.source.layers import layer_of
from gradcheck_lint.source.natures import (
    Buffers,
    Instance,
    Module,
    Opaque,
    Optimizer,
    Parameters,
    StateDict,
    StateItems,
    Stored,
    Super,
    Tensor,
    Walk,
)
from gradcheck_lint.source.run import initial, iteration, members, objects, parts, tensors
from gradcheck_lint.source.run.arguments import Arguments
from gradcheck_lint.source.run.holdings import callables
from gradcheck_lint.source.run.library import function, method
from gradcheck_lint.source.run.machine import Machine, Method
from gradcheck_lint.source.run.touch import turns
from gradcheck_lint.source.tree import Container
from gradcheck_lint.source.values import NONE, Constant, External, Items, Thing, Value, new_serial, only, things


@function(*torch_api.NORMED)
def _normed(machine: Machine, args: Arguments, node: tree.Call) -> Value | None:
    """`weight_norm(module)` and the like: the module, whose weight is computed from new parameters from now on."""
    parts.given(machine, node, args.all())
    called = machine.eval(node.func)
    if isinstance(called, External):
        machine.emit(node, ev.TorchCall(name=called.name, args=args))
    return args.get(0, "module")


@function(*torch_api.NORMED_BY_HOOK)
def _normed_by_hook(machine: Machine, args: Arguments, node: tree.Call) -> Value | None:
    machine.emit(node, ev.ForwardHook(args.get(0, "module"), tree.last_name(node.func)))
    return _normed(machine, args, node)


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


@method("append", "extend", "insert")
def _put_in(machine: Machine, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    """A ModuleList or a Sequential gets more modules."""
    thing = only(base, (Module, Opaque))
    if thing is not None and isinstance(thing.what, Opaque) and isinstance(thing.root.what, Module):
        if args.positional and things(args.positional[-1], Module) and parts.registered(thing, thing.root):
            machine.emit(node, ev.Register(thing, name=None, value=args.positional[-1], how=tree.last_name(node.func)))
        return None
    if thing is None or layer_of(thing) not in ("ModuleList", "Sequential") or not args.positional:
        return None
    name, value = tree.last_name(node.func), args.positional[-1]
    values = value.items if name == "extend" and isinstance(value, Items) else [value]
    if name == "insert" or (name == "extend" and not (isinstance(value, Items) and value.complete)):
        thing.open = True
    for each in values:
        parts.owned(each, thing, "")
        machine.emit(node, ev.Register(thing, name=None, value=each, how=name))
    members.appended(machine, thing, values)
    parts.changed(thing)
    return thing


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
    if machine.loaded and any(initial.values_given(machine, f) for f in callables(function)):
        machine.emit(node, ev.Initialise(thing, frozenset({"*"})))
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


@method("buffers", "named_buffers")
def _buffers(machine: Machine, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    thing, name = only(base, Module), tree.last_name(node.func)
    if thing is None or args.all():
        return None
    via = Buffers(thing, named=name == "named_buffers")
    return Thing(Opaque(), name, machine.place(node), deps=depends(thing), certain=False, via=via)


@method("get_buffer", "get_parameter")
def _get_stored(machine: Machine, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    thing = only(base, Module)
    if thing is None or len(args.positional) != 1:
        return None
    via = Stored(thing, args.positional[0])
    return Thing(Opaque(), "", machine.place(node), deps=depends(thing), certain=False, via=via)


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
    machine.loaded = True
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
    how = tree.last_name(node.func)
    if how in _BEFORE_OR_AFTER and things(base, (Module, Opaque)):
        machine.emit(node, ev.ForwardHook(base, how))
    if not hooks or any(turns(machine, hook, node) for hook in hooks):
        machine.emit(node, ev.Hook(base))
    return Thing(Opaque(), "", machine.place(node), certain=False)


_BEFORE_OR_AFTER = frozenset({"register_forward_hook", "register_forward_pre_hook"})


def _register(how: str) -> Method:
    def register(machine: Machine, base: Value, args: Arguments, node: tree.Call) -> Value | None:
        name = args.get(0, "name")
        value = args.get(1, {"parameter": "param", "buffer": "tensor"}.get(how, how))
        machine.emit(node, ev.Register(base, name=name, value=value, how=how))
        if isinstance(name, Constant) and isinstance(name.value, str) and value is not None:
            for thing in things(base):
                machine.set(thing.serial, name.value, value)
                if how != "buffer" and not machine.looking:
                    parts.noted(machine, thing, name.value)
                    parts.owned(value, thing, name.value)
        elif how != "buffer":
            for thing in things(base):
                parts.noted(machine, thing, None)
        return NONE

    return register


method("register_buffer")(_register("buffer"))
method("register_parameter")(_register("parameter"))
method("register_module", "add_module")(_register("module"))
