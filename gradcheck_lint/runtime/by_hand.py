"""Whether the program has code that writes networks by hand, as targets and averages are: it may not have run yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.runtime.codes import reachable

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import FrameType

    from torch.nn import Module

_PAIRS = (frozenset({"zip", "parameters"}), frozenset({"zip", "named_parameters"}), frozenset({"state_dict"}))
_WRITES = frozenset({"copy_", "lerp_", "mul_", "_foreach_copy_", "_foreach_lerp_", "_foreach_mul_"})


def writes_networks(frames: Iterable[FrameType]) -> bool:
    """Whether a function of the user's in reach of these frames goes over two networks and writes into one."""
    names = (set(code.co_names) for code in reachable(frames))
    return any(not _WRITES.isdisjoint(found) and any(pair <= found for pair in _PAIRS) for found in names)


def twins(module: Module, others: Iterable[Module]) -> bool:
    """Whether one of the others could be what a module is a copy of: of its class, with tensors of its shapes."""
    shapes = [parameter.shape for parameter in module.parameters()]
    return any(
        other is not module and type(other) is type(module) and [p.shape for p in other.parameters()] == shapes
        for other in others
    )
