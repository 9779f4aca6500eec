"""What operations make of tensors: the same tensor, another leaf, or the result of a computation.

A tensor's detail says whether it is a leaf and requires grad (`leaf`, `grad`: True, False, or None if that is not
known), what it was made from (`from`), and its `dtype` and `device` as far as the code shows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.source import tree
from gradcheck_lint.source.values import Constant, External, Items, Thing, Value, options

if TYPE_CHECKING:
    from gradcheck_lint.source.interpret import Arguments, Interpreter

NO_GRAD = frozenset({"no_grad", "inference_mode"})
UNSURE = frozenset({"enable_grad", "set_grad_enabled"})

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


def keeps_track(i: Interpreter) -> bool | None:
    """Whether operations are recorded for backward here; None if that is not known."""
    if i.frame.context & UNSURE:
        return None
    return not i.frame.context & NO_GRAD


def converted(i: Interpreter, thing: Thing, how: str, args: Arguments, node: tree.Node) -> Thing:
    """`thing.to(...)`, `.cuda()`, `.float()` and the like: itself where there is nothing to do, else a copy."""
    stays = _stays(thing, how, args)
    if stays:
        return thing
    return derived(i, thing, node, how, leaf=False if stays is False else None)


def derived(i: Interpreter, thing: Thing, node: tree.Node, how: str, leaf: bool | None = False) -> Thing:
    """A tensor computed from another one, of which it is a copy or a view; `leaf` None if it may be the same one."""
    track, grad = keeps_track(i), thing.detail.get("grad")
    detail = {"from": thing, "how": how, "made_by": how, "leaf": leaf, "grad": grad, "dtype": None, "device": ...}
    if track is None or "element_of" in thing.detail:
        detail["leaf"] = None
    elif not track or grad is False:
        detail.update(leaf=True, grad=False)
    elif grad is None or thing.detail.get("leaf") is None:
        detail["leaf"] = None if grad is None else leaf
    return Thing("tensor", thing.label, i.place(node), deps=thing.deps, summary=thing.summary, detail=detail)


def _stays(thing: Thing, how: str, args: Arguments) -> bool | None:
    """Whether a conversion gives the tensor itself; None if that depends on what is not known."""
    if how in _CASTS:
        return _cast(thing, how in ("float",))
    if how == "cpu":
        return True if thing.detail.get("device") is None else None
    if how in ("cuda", "xpu"):
        return False if thing.detail.get("device") is None else None
    if how != "to" or args.open:
        return None
    found = [_to(thing, value) for value in (*args.positional, *args.keywords.values())]
    if False in found:
        return False
    return None if None in found or not found else True


def _cast(thing: Thing, single: bool) -> bool | None:
    return None if thing.detail.get("dtype") != "float32" else single


def _to(thing: Thing, value: Value) -> bool | None:
    """What one argument of `.to(...)` does."""
    if isinstance(value, External) and value.name in _SAME | _OTHER:
        return _cast(thing, value.name in _SAME)
    if isinstance(value, Constant) and isinstance(value.value, bool):
        return True  # non_blocking
    if thing.detail.get("device") is not None:
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
    detail = thing.detail
    detail["ever"] = detail.get("ever") or detail.get("grad") is not False or value is not False
    detail["grad"] = value
