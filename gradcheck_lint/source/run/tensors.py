"""What operations make of tensors: the same tensor, another leaf, or the result of a computation.

What is known of a tensor is in `natures.Tensor`.
"""

from __future__ import annotations

from collections.abc import Iterable

from gradcheck_lint.laws.answer import MAYBE, NO, YES
from gradcheck_lint.laws.mode import OFF, records
from gradcheck_lint.source import events as ev
from gradcheck_lint.source import tree
from gradcheck_lint.source.deps import depends, united
from gradcheck_lint.source.holding import leaves_of
from gradcheck_lint.source.layers import dims
from gradcheck_lint.source.natures import LossScaled, Opaque, Tensor, nature, requires_grad
from gradcheck_lint.source.run.arguments import Arguments
from gradcheck_lint.source.run.machine import Machine
from gradcheck_lint.source.values import Constant, External, Items, Thing, Value, only, options, things


def computed(machine: Machine, node: tree.Node, values: list[Value]) -> Value:
    """The result of arithmetic: not a leaf if a trained tensor takes part, scaled if a scaled loss does."""
    for value in values:
        scaled = only(value, LossScaled)
        if scaled is not None:
            return Thing(scaled.what, "", machine.place(node), deps=depends(*values), certain=False)
        for thing in things(value, Tensor):
            if requires_grad(thing):
                result = derived(machine, thing, node, "computed", leaves=_leaves_of_all(values))
                result.label, result.deps = "", depends(*values)
                return result
    made = Thing(Opaque(), "", machine.place(node), deps=depends(*values), certain=False)
    if machine.making is not None:
        known = {d for d in (_dims(machine, v) for v in values if not isinstance(v, Constant)) if d is not None}
        if len(known) == 1:
            machine.dims[made.serial] = known.pop()
    return made


def _dims(machine: Machine, value: Value) -> int | None:
    """How many dimensions a tensor has that takes part in arithmetic."""
    found = machine.dims.get(value.serial) if isinstance(value, Thing) else None
    return found if found is not None else dims(value)


def _leaves_of_all(values: Iterable[Value]) -> frozenset[Thing] | None:
    """The tensors that values were computed from, if the code shows all of them."""
    found = [frozenset[Thing]() if isinstance(value, Constant) else leaves_of(value) for value in values]
    known = [leaves for leaves in found if leaves is not None]
    return united(*known) if len(known) == len(found) else None


def recorded(machine: Machine, args: Arguments) -> frozenset[Thing]:
    if machine.frame.context & OFF:
        return frozenset()
    return depends(*args.all())


_FLOATS = frozenset(["zeros", "ones", "randn", "rand", "empty", "linspace", "eye"])


_SAME = frozenset({"torch.float32", "torch.float"})


_OTHER = frozenset(["torch.float64", "torch.double", "torch.float16", "torch.half", "torch.bfloat16"])


_CASTS = {"float": _SAME, "double": _OTHER, "half": _OTHER, "bfloat16": _OTHER}


def dtype_of(made_by: str, args: Arguments) -> str | None:
    """The dtype of a new tensor: torch's default one, unless the code says or implies another."""
    if "dtype" in args.keywords or args.open:
        return None
    if made_by in _FLOATS or (made_by == "tensor" and args.positional and _floats(args.positional[0])):
        return "float32"
    return None


def _floats(value: Value) -> bool:
    if isinstance(value, Items):
        return bool(value.items) and all(_floats(item) for item in value.items)
    return isinstance(value, Constant) and isinstance(value.value, float)


def converted(machine: Machine, thing: Thing, how: str, args: Arguments, node: tree.Node) -> Thing:
    """`thing.to(...)`, `.cuda()`, `.float()` and the like: itself where there is nothing to do, else a copy."""
    stays = _stays(thing, how, args)
    if stays:
        return thing
    return derived(machine, thing, node, how, leaf=False if stays is False else None)


def derived(
    machine: Machine,
    thing: Thing,
    node: tree.Node,
    how: str,
    leaf: bool | None = False,
    leaves: frozenset[Thing] | None = None,
) -> Thing:
    """A tensor computed from another one, of which it is a copy or a view.

    `leaf` is None if it may be the same one; `leaves` are all that it was computed from, if that is known.
    """
    old, track = nature(thing, Tensor) or Tensor(), records(machine.frame.context)
    new = Tensor(leaf, old.grad, how, thing, leaves, elsewhere=True)
    if track is MAYBE or old.element_of is not None:
        new.leaf = None
    elif track is NO or old.grad is False:
        new.leaf, new.grad = True, False
    elif old.grad is None or old.leaf is None:
        new.leaf = None if old.grad is None else leaf
    return Thing(new, thing.label, machine.place(node), deps=thing.deps, summary=thing.summary)


def _stays(thing: Thing, how: str, args: Arguments) -> bool | None:
    """Whether a conversion gives the tensor itself; None if that depends on what is not known."""
    if how in _CASTS:
        return _cast(thing, how in ("float",))
    if how == "cpu":
        return None if _elsewhere(thing) else True
    if how in ("cuda", "xpu"):
        return None if _elsewhere(thing) else False
    if how != "to" or args.open:
        return None
    found = [_to(thing, value) for value in (*args.positional, *args.keywords.values())]
    if False in found:
        return False
    return None if None in found or not found else True


def _cast(thing: Thing, single: bool) -> bool | None:
    tensor = nature(thing, Tensor)
    return single if tensor is not None and tensor.dtype == "float32" else None


def _elsewhere(thing: Thing) -> bool:
    return isinstance(thing.what, Tensor) and thing.what.elsewhere


def _to(thing: Thing, value: Value) -> bool | None:
    """What one argument of `.to(...)` does."""
    if isinstance(value, External) and value.name in _SAME | _OTHER:
        return _cast(thing, value.name in _SAME)
    if isinstance(value, Constant) and isinstance(value.value, bool):
        return True  # non_blocking
    if _elsewhere(thing):
        return None
    if isinstance(value, Constant) and isinstance(value.value, str):
        return False if _gpu(value.value) else True if value.value == "cpu" else None
    if any(isinstance(o, Thing) and o.place is not None and _names_gpu(o.place.node) for o in options(value)):
        return False  # wherever there is a GPU
    return None


def _names_gpu(node: tree.Node) -> bool:
    """Whether the expression of a device names a GPU."""
    return any(isinstance(n, tree.Constant) and isinstance(n.value, str) and _gpu(n.value) for n in node.walk())


def _gpu(name: str) -> bool:
    return name.partition(":")[0] in ("cuda", "xpu", "mps")


def now_requires_grad(thing: Thing, value: bool | None) -> None:
    """`requires_grad` of a tensor is written; `ever` remembers that it may have been true at some time."""
    tensor = thing.what
    if isinstance(tensor, Tensor):
        tensor.ever = tensor.ever or tensor.grad is not False or value is not False
        tensor.grad = value


def write(machine: Machine, value: Value, node: tree.Node, how: str) -> None:
    """A tensor is changed in place: torch refuses that for a leaf that requires grad, while it records."""
    for thing in things(value, Tensor) if only(value) is not None else ():
        if isinstance(thing.what, Tensor) and thing.what.trained and records(machine.frame.context) is YES:
            machine.emit(node, ev.LeafWrite(thing, how))
