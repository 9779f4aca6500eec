"""Calls of names and methods that lead out of the project: by their own entry, by their family, or not known.

An entry of a library (`@function`, `@method`) comes first. It may give None: then the families that are told by a part
of the name are asked, in this order, and what is left is code that is not seen.
"""

from __future__ import annotations

from gradcheck_lint.source import events as ev
from gradcheck_lint.source import frameworks, torch_api, tree
from gradcheck_lint.source.deps import cut_off
from gradcheck_lint.source.holding import regroup
from gradcheck_lint.source.libraries import containers, torch_module, torch_optim, torch_tensor, wrappers
from gradcheck_lint.source.natures import (
    Data,
    Grad,
    GroupParams,
    Groups,
    Module,
    Opaque,
    Optimizer,
    Parameters,
    StateDict,
    Tensor,
    requires_grad,
)
from gradcheck_lint.source.run import gradients, iteration, names, objects, parts, tensors, unseen
from gradcheck_lint.source.run.arguments import Arguments
from gradcheck_lint.source.run.machine import Machine
from gradcheck_lint.source.run.touch import EXECUTING, known, turning, unknown
from gradcheck_lint.source.values import NONE, External, Items, Table, Thing, Value, only, things


def external(machine: Machine, target: External, args: Arguments, node: tree.Call) -> Value:
    name = target.name
    head, _, last = name.rpartition(".")
    if name == "builtins.print" or (known(name) and head != "builtins" and not name.startswith("torch.")):
        for value in args.keywords.values():
            machine.spotted.lent(value)  # `print(…, file=x)` calls x.write
    if (
        last in machine.library.methods
        and head.startswith("torch.")
        and head.rpartition(".")[2][:1].isupper()
        and args.positional
    ):
        rest = Arguments(args.positional[1:], args.keywords, args.open)  # `SGD.zero_grad(optimizer)`
        return method(machine, args.positional[0], last, rest, node)
    function = machine.library.functions.get(name)
    if function is not None:
        result = function(machine, args, node)
        if result is not None:
            return result
    if name.startswith("torch.") and last.startswith("register_") and last.endswith("_hook"):
        torch_module.hook(machine, target, args, node)
    kind = Optimizer if name == "torch.optim.*" else torch_api.nature_of_class(name)
    if kind is not None:
        return torch_optim.build(machine, kind(), name, args, node)
    if last in ("clip_grad_norm_", "clip_grad_value_", "clip_grad_norm"):
        return torch_optim.clip(machine, args, node)
    if head in ("torch", "builtins") and last in torch_api.FACTORIES:
        return torch_tensor.tensor(machine, args, node, last)
    if torch_api.WRAPPERS.search(name) and not frameworks.keeps_the_cycle(name):
        wrapped = wrappers.wrap(machine, args, node)
        if name == "torch.nn.parallel.DistributedDataParallel" and isinstance(wrapped, Thing) and wrapped.wraps:
            machine.emit(node, ev.Distribute(wrapped))
        if wrapped is not None:
            return wrapped
    if torch_api.makes_model(name) or last == "from_pretrained":
        thing = Thing(Module(pretrained=True), last, machine.place(node), cls=target, args=args)
        machine.emit(node, ev.Build(thing, args=args, name=name))
        return thing
    if (name.startswith("torch.") or head == "builtins") and name not in EXECUTING:
        machine.emit(node, ev.TorchCall(name=name, args=args, receiver=None))
        if last in torch_api.COPIES and head == "torch" and args.positional and "out" not in args.keywords:
            if thrown_away(machine, node, last):
                machine.emit(node, ev.Dropped(args.positional[0], last, node.args[0].value, function_form=True))
        if parts.reshapes(name):
            parts.given(machine, node, args.all())
        called = turning(machine, args.all(), args, node)
        if called is not None:
            unknown(machine, node, called.subject, last)
        for value, argument in zip(args.positional, node.args, strict=False):
            iteration.consume(machine, value, argument.value, last if last in _USERS else "?")
            if name.startswith("torch.distributed.") or last.endswith("_"):
                gradients.change_grads(machine, value, node, name)
        for value in (v for k, v in args.keywords.items() if k == "out"):
            gradients.change_grads(machine, value, node, "out=")
        if any(requires_grad(t) for a in args.all() for t in things(a, Tensor)):
            return tensors.computed(machine, node, args.all())
        deps = tensors.recorded(machine, args)
        smooth = (head != "builtins" and last not in torch_api.NO_GRADIENT) or name == "builtins.sum"
        made = Thing(Opaque(), last, machine.place(node), deps=deps if smooth else cut_off(deps), certain=False)
        if head == "torch.utils.data":
            made.args = args  # a batch has the shape of what its data set was made of
        return unseen.origin(made, None, args, name)
    return unseen.opaque(machine, last, None, args, node, outside=name)


_USERS = frozenset("sum max min parameters_to_vector get_total_norm clip_grads_with_norm_".split())
"""Functions that use up an iterator."""


def method(machine: Machine, base: Value, attr: str, args: Arguments, node: tree.Call) -> Value:
    """A method of a thing that is no code of the project."""
    if isinstance(node.func, tree.Attribute):
        names.spelling(machine, node.func, base, called=True)
    receiver = next(iter(things(base)), None)
    _tell(machine, base, receiver, attr, args, node)
    method = machine.library.methods.get(attr)
    if method is None and attr.startswith("register_") and attr.endswith("_hook"):
        method = torch_module.hook
    if method is not None:
        result = method(machine, base, args, node)
        if result is not None:
            return result
    thing = only(base)
    if attr == "module" and thing is not None and thing.wraps is not None:  # `wrapper.module(x)`
        return machine.call(thing.wraps, args, node)
    if isinstance(base, Items):
        return containers.items_method(machine, base, attr, args, node)
    if isinstance(base, Table):
        return containers.table_method(machine, base, attr, args, node)
    if thing is not None and isinstance(thing.what, Parameters) and attr in ("append", "extend") and args.positional:
        more = args.positional[0]
        if attr == "extend":
            iteration.consume(machine, more, node.args[0].value, attr)
        objects.lengthen(thing, more)
        return NONE
    if thing is not None and attr in _LIST_WRITING and isinstance(thing.what, (Groups, GroupParams)):
        regroup(thing)
    if thing is not None and isinstance(thing.what, StateDict) and attr in ("update", "__setitem__"):
        thing.what.rewritten = True
    if isinstance(base, External):
        return external(machine, External(torch_api.canonical(f"{base.name}.{attr}")), args, node)
    if torch_api.WRAPPERS.search(f".{attr}") and any(
        isinstance(t.what, (Module, Optimizer)) for a in args.all() for t in things(a)
    ):
        wrapped = wrappers.wrap(machine, args, node)
        if wrapped is not None:
            return wrapped
    if thing is not None and isinstance(thing.what, Grad) and attr.endswith("_"):
        gradients.change_grad(machine, thing, node)
    if thing is not None and isinstance(thing.what, Tensor) and attr.endswith("_"):
        thing.what.written = True
        machine.emit(node, ev.Write(thing))
    elif thing is not None and isinstance(thing.what, Data) and attr.endswith("_"):
        machine.emit(node, ev.Write(thing))
    elif thing is not None and isinstance(thing.what, Tensor) and thing.what.grad:
        return tensors.computed(machine, node, [thing, *args.all()])
    return unseen.opaque(machine, attr, receiver, args, node)


def _tell(machine: Machine, base: Value, receiver: Thing | None, attr: str, args: Arguments, node: tree.Call) -> None:
    """Tell of what is certain by the name of the method and by what it is called on, whatever it gives."""
    if attr in torch_api.GIVES_ANOTHER and isinstance(node.func, tree.Attribute) and thrown_away(machine, node, attr):
        machine.emit(node, ev.Dropped(base, attr, node.func.value))
    if attr in torch_api.WRITING:
        tensors.write(machine, base, node, attr)
    if receiver is not None and receiver.origin == "accelerate.Accelerator":
        if attr in _PREPARING:
            machine.emit(node, ev.Prepare(receiver, args))
        elif attr == "backward":
            machine.emit(node, ev.AcceleratedBackward(receiver))


def thrown_away(machine: Machine, node: tree.Call, attr: str) -> bool:
    """Whether a call is a statement, and nobody takes what it gives.

    So it is where the copy is only written into: `p.mul(0.9).add_(grad)`.
    """
    statement = machine.frame.statement
    if not isinstance(statement, tree.Evaluate):
        return False
    taken = statement.value
    while taken is not node:
        if (
            attr not in torch_api.COPIES
            or not isinstance(taken, tree.Call)
            or not isinstance(taken.func, tree.Attribute)
        ):
            return False
        if attr not in torch_api.COPIES or taken.func.attr not in torch_api.WRITING:
            return False
        taken = taken.func.value
    return True


_PREPARING = frozenset({"prepare", "prepare_model", "prepare_optimizer"})

_LIST_WRITING = frozenset({"append", "extend", "insert", "remove", "pop", "clear", "sort", "reverse"})
