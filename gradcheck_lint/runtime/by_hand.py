"""What the program does by hand besides training: writes networks, as targets are, keeps weights within bounds, or asks
for gradients itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradcheck_lint.runtime.codes import at_hand, methods

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import CodeType, FrameType

    from torch.nn import Module

_PAIRS = (frozenset({"zip", "parameters"}), frozenset({"zip", "named_parameters"}), frozenset({"state_dict"}))
_WRITES = frozenset({"copy_", "lerp_", "mul_", "_foreach_copy_", "_foreach_lerp_", "_foreach_mul_", "data"})
_MOVES = frozenset({"grad", "data", "load_state_dict", "_apply", "vector_to_parameters", "_foreach_copy_",
                    "_foreach_lerp_", "_foreach_mul_", "_foreach_add_"})  # fmt: skip
_HARMLESS = frozenset({"requires_grad_", "clip_grad_norm_", "clip_grad_value_", "unscale_", "use_deterministic_"})
_BOUNDS = frozenset({"clamp_", "clip_", "clamp_min_", "clamp_max_", "renorm_", "relu_", "hardtanh_", "abs_"})
_SIZES = frozenset({"clamp", "clip", "norm", "vector_norm", "normalize", "renorm", "softmax", "qr", "svd", "relu"})
_SETS = frozenset({"copy_", "div_", "mul_"})  # assigned to `data` a tensor has other memory, which is not looked at


def writes_networks(frames: Sequence[FrameType]) -> bool:
    """Whether a function of the user's in reach of these frames goes over two networks and writes into one."""
    names = (set(code.co_names) for code in at_hand(frames))
    return any(not _WRITES.isdisjoint(found) and any(pair <= found for pair in _PAIRS) for found in names)


def may_move_weights(codes: Iterable[CodeType]) -> bool:
    """Whether one of these functions reads gradients or writes into tensors, as who moves weights by hand does."""
    return any(_writes(name, code) for code in codes for name in code.co_names)


def _writes(name: str, code: CodeType) -> bool:
    if name in _MOVES:
        return True
    if not name.endswith("_") or name.startswith("_") or name in _HARMLESS:
        return False
    return "init" not in code.co_names or not hasattr(_initialisers(), name)


def _initialisers() -> Any:
    from torch.nn import init

    return init


def projects(frames: Sequence[FrameType]) -> bool:
    """Whether a function in reach of these frames keeps tensors within bounds: clips, normalises, orthogonalises them.

    A norm that is taken without writing anything is only looked at.
    """
    names = (set(code.co_names) for code in at_hand(frames))
    return any(found & _BOUNDS or (found & _SIZES and found & _SETS) for found in names)


def wants_gradient(attribute: str, owner: type, frames: Sequence[FrameType]) -> bool:
    """Whether the program may ask for the gradient of a tensor in an attribute, as of the points of an equation."""
    return any(
        "grad" in code.co_names and (attribute in code.co_names or _differentiates(code))
        for code in (*methods(owner), *at_hand(frames))
    )


def differentiates(frames: Sequence[FrameType]) -> bool:
    """Whether the program may ask for gradients that are part of a loss, as of the points of an equation."""
    return any(_differentiates(code) for code in at_hand(frames))


def _differentiates(code: CodeType) -> bool:
    if "grad" not in code.co_names:
        return False
    options = {word for constant in code.co_consts if isinstance(constant, tuple) for word in constant}
    return "autograd" in code.co_names or "create_graph" in options


def twins(modules: Iterable[Module], others: Iterable[Module]) -> set[int]:
    """The ids of modules that one of the others could be a copy of: of the same class, with tensors of the same shapes.

    Each is looked at once, for there may be as many of them as a network has layers.
    """
    wanted = {id(module): module for module in modules}
    kinds = {id(type(module)) for module in wanted.values()}
    known: dict[tuple[Any, ...], list[Module]] = {}
    for other in others:
        if id(type(other)) in kinds:
            known.setdefault(_form(other), []).append(other)
    return {key for key, module in wanted.items() if any(other is not module for other in known.get(_form(module), ()))}


def paired(
    around: Iterable[Module], others: Iterable[Module], fits: Callable[[Module], bool]
) -> list[tuple[Module, Module]]:
    """Those of these, and of what is in them, that fit and could be copies of one of the others, each with it."""
    known: dict[int, list[Module]] = {}
    for other in others:
        known.setdefault(id(type(other)), []).append(other)
    found: list[tuple[Module, Module]] = []
    seen: set[int] = set()
    todo = list(around)
    while todo:
        module = todo.pop()
        if id(module) in seen:
            continue
        seen.add(id(module))
        alike = known.get(id(type(module)), [])
        form = _form(module) if alike and fits(module) else None
        twin = next((other for other in alike if other is not module and _form(other) == form), None) if form else None
        if twin is None:
            todo += (child for child in module._modules.values() if child is not None)
        elif len(form or ()) > 1:
            found.append((module, twin))
    return found


def _form(module: Module) -> tuple[Any, ...]:
    return (id(type(module)), *(parameter.shape for parameter in module.parameters()))
