"""Making tensors and parameters, and the methods of tensors that matter to gradients."""

from __future__ import annotations

from gradcheck_lint.source import events as ev
from gradcheck_lint.source import torch_api, tree
from gradcheck_lint.source.deps import cut_off
from gradcheck_lint.source.natures import Grad, Opaque, Tensor, nature, stored
from gradcheck_lint.source.run import assignment, gradients, parts, tensors
from gradcheck_lint.source.run.arguments import Arguments
from gradcheck_lint.source.run.library import function, method
from gradcheck_lint.source.run.machine import Machine
from gradcheck_lint.source.values import Constant, External, Thing, Value, only, things

_COPIES = frozenset(
    "clone contiguous view reshape squeeze unsqueeze permute transpose t flatten repeat expand flip".split()
)
"""Methods that copy a tensor, or look at it in another shape."""


OVERWRITING = frozenset(
    "copy_ set_ normal_ uniform_ random_ bernoulli_ cauchy_ exponential_ geometric_ log_normal_".split()
)
"""Methods that give each element of a tensor a value that does not depend on the one before."""


def tensor(machine: Machine, args: Arguments, node: tree.Call, last: str) -> Value:
    flag = args.keywords.get("requires_grad")
    grad: bool | None = False
    if flag is not None:
        grad = bool(flag.value) if isinstance(flag, Constant) and flag.value is not ... else None
    deps = frozenset() if last in ("tensor", "as_tensor") else tensors.recorded(machine, args)
    elsewhere = args.keywords.get("device") is not None
    made = Tensor(True, grad, last, dtype=tensors.dtype_of(last, args), elsewhere=elsewhere)
    thing = Thing(made, last, machine.place(node), args=args, deps=deps)
    machine.emit(node, ev.Build(thing, args=args, name=f"torch.{last}"))
    return thing


@function("torch.nn.Parameter")
def _parameter(machine: Machine, args: Arguments, node: tree.Call) -> Value | None:
    flag = args.get(1, "requires_grad")
    grad = True if flag is None else bool(flag.value) if isinstance(flag, Constant) and flag.value is not ... else None
    data = only(args.positional[0], Tensor) if args.positional else None
    given = nature(data, Tensor) or Tensor(elsewhere=True)
    made = Tensor(True, grad, "Parameter", dtype=given.dtype, elsewhere=given.elsewhere)
    thing = Thing(made, "Parameter", machine.place(node), args=args)
    machine.emit(node, ev.Build(thing, args=args, name="torch.nn.Parameter"))
    return thing


@function("torch.autograd.Variable")
def _variable(machine: Machine, args: Arguments, node: tree.Call) -> Value | None:
    flag = args.get(1, "requires_grad")
    if isinstance(flag, Constant) and flag.value is True:
        thing = Thing(Tensor(True, True, "Variable"), "Variable", machine.place(node), args=args)
        machine.emit(node, ev.Build(thing, args=args, name="torch.autograd.Variable"))
        return thing
    if any(torch_api.misspelt(keyword) for keyword in args.keywords):
        machine.emit(node, ev.TorchCall(name="torch.autograd.Variable", args=args, receiver=None))
    return args.positional[0] if args.positional else None


@method("detach", "item", "tolist", "numpy")
def _detached(machine: Machine, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    thing = only(base)
    if thing is not None and isinstance(thing.what, Grad) and tree.last_name(node.func) == "detach":
        return thing  # the same values
    if thing is not None and isinstance(thing.what, Tensor):
        return Thing(Tensor(True, False, "detach", thing), thing.label, machine.place(node), summary=thing.summary)
    if isinstance(base, External):
        return None
    return Thing(Opaque(), "", machine.place(node), certain=False)


@method(*_COPIES)
def _copied(machine: Machine, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    """x.clone(), x.view(…) and the like: a tensor computed from x."""
    thing, how = only(base), tree.last_name(node.func)
    if thing is None or not isinstance(thing.what, (Tensor, Opaque)):
        return None
    if isinstance(thing.what, Tensor):
        return tensors.derived(machine, thing, node, how, leaf=None if how == "contiguous" else False)
    if how != "clone":
        return None
    return Thing(Tensor(made_by=how), thing.label, machine.place(node), deps=thing.deps, summary=thing.summary)


@method("requires_grad_")
def _requires_grad(machine: Machine, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    flag = args.get(0, "requires_grad")
    value: bool | None = True
    if flag is not None:
        value = bool(flag.value) if isinstance(flag, Constant) and flag.value is not ... else None
    sole = only(base) is not None

    def write(thing: Thing) -> None:
        owner = gradients.owner_of(thing)
        machine.emit(
            node, ev.Freeze(owner, value=value, how="requires_grad_", thing=thing, parts=parts.parts_in(machine, owner))
        )
        if isinstance(thing.what, Tensor):
            tensors.now_requires_grad(thing, value if sole else None)

    assignment.whichever(machine, base, node, write)
    return base


@method("retain_grad")
def _retain_grad(machine: Machine, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    for thing in things(base, Tensor):
        if isinstance(thing.what, Tensor):
            thing.what.retained = True
    return None


@method("zero_")
def _zero_(machine: Machine, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    assignment.whichever(
        machine,
        base,
        node,
        lambda thing: (
            gradients.zero_grad_of(machine, thing, node, "grad.zero_()") if isinstance(thing.what, Grad) else None
        ),
    )
    return base if things(base) else None


@method("fill_")
def _fill_(machine: Machine, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    return _overwritten(machine, base, args.get(0, "value"), node)


@method("lerp_")
def _lerp_(machine: Machine, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    """An average moves towards another tensor."""
    if stored(base) is not None:
        machine.emit(node, ev.TorchCall(name="lerp_", args=args, receiver=base))
    return None


@method(*OVERWRITING)
def _write_(machine: Machine, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    if tree.last_name(node.func) == "copy_" and stored(base) is not None:
        machine.emit(node, ev.TorchCall(name="copy_", args=args, receiver=base))
    return _overwritten(machine, base, None, node) if things(base, Grad) else None


def _overwritten(machine: Machine, base: Value, value: Value | None, node: tree.Call) -> Value | None:
    """Each element of the tensor gets another value, whatever it was before."""
    for thing in things(base):
        if isinstance(thing.what, Grad):
            gradients.overwrite_grad(machine, thing, node, value)
        elif isinstance(thing.what, Tensor):
            thing.what.written = True
    return base if things(base) else None


@method("mul_")
def _mul_(machine: Machine, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    factor = args.get(0, "other")
    if isinstance(factor, Constant) and factor.value == 0 and things(base, Grad):
        return _zero_(machine, base, args, node)
    return None


@method("detach_")
def _same_grad(machine: Machine, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    """p.grad.detach_(), p.grad.data …: still the gradient; anything else is cut off from its graph in place."""
    for thing in things(base):
        thing.deps = cut_off(thing.deps)
        if isinstance(thing.what, Tensor):
            thing.what.leaf, thing.what.grad = True, False
    return base if things(base, Grad) else None


@function("torch.device")
def _device(machine: Machine, args: Arguments, node: tree.Call) -> Value | None:
    return Thing(Opaque(), "device", machine.place(node), certain=False)
