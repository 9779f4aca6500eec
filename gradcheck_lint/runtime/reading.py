"""Reading the values of tensors: when that is done, what a tensor has on this rank, pieces of it, norms, lost bits.

What a tensor seems to hold and what can be read of it cheaply differ: a DTensor has parts on other ranks, a sparse
gradient has values of its own, a float16 norm overflows before its elements do. All checks that read values come here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from gradcheck_lint.runtime.observer import Observer

PIECE = 256  # elements of a tensor that stand for all of it
HALF_NORMAL = 2.0**-14  # the smallest float16 with all its bits
_SOME = 0.1  # of a gradient is zero


def sampled(observer: Observer) -> bool:
    """Whether values are read at this step, and may be."""
    return observer.reads and not capturing()


def rate(group: dict[str, Any]) -> float | None:
    """The learning rate of a group of parameters; None if it has none, or reading it would make an accelerator wait."""
    found = group.get("lr")
    known = isinstance(found, (int, float)) or getattr(found, "is_cpu", False)
    return float(found) if known and found is not None else None


def plain_rates(observer: Observer) -> list[float]:
    """The learning rates of all groups, to be compared later; [] where one is a tensor, which may change meanwhile."""
    rates: list[Any] = [group.get("lr") for group in observer.groups()]
    return rates if all(isinstance(one, (int, float)) for one in rates) else []


def capturing() -> bool:
    """Whether work on an accelerator is being recorded to be played again; ours must not be in it."""
    import torch

    started: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return started and torch.cuda.is_current_stream_capturing()


def _here(tensor: Tensor) -> Tensor:
    """What this rank has of a tensor, without the graph: reading the whole of a DTensor would make the ranks talk."""
    tensor = tensor.detach()
    found: Tensor = getattr(tensor, "_local_tensor", tensor)
    return found


def local(tensor: Tensor) -> Tensor:
    """The values that a tensor has on this rank, without the graph; of a sparse one, each place once.

    None at all if its memory was freed.
    """
    found = _here(tensor)
    found = found.coalesce().values() if found.is_sparse else found
    return found if has_memory(found) else found.new_empty(0)


def plain(tensor: Tensor) -> Tensor | None:
    """As `local`, but None if no numbers are to be had; the values of a sparse tensor are taken as they lie there."""
    found = _here(tensor)
    if found.is_meta or not (found.is_floating_point() or found.is_complex()):
        return None
    if found.is_sparse:
        found = found._values()
    return found if found.numel() and has_memory(found) else None


def has_memory(tensor: Tensor) -> bool:
    """Whether there is memory behind a tensor: FSDP frees that of the whole parameters between their uses.

    To read one without memory ends the process.
    """
    try:
        return tensor.untyped_storage().nbytes() > 0 or not tensor.numel()
    except (NotImplementedError, RuntimeError):
        return True  # a subclass that keeps its values elsewhere, and is asked for them itself


def beginning(tensor: Tensor, count: int) -> Tensor:
    """A copy of the first `count` values that a tensor has on this rank, or of all if there are fewer."""
    return local(tensor).reshape(-1)[:count].clone()


def equal(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors have the same values; not if one has more of them, as its memory may have been freed."""
    return one.shape == other.shape and one.device == other.device and bool((one == other).all())


def piece(tensor: Tensor) -> Tensor:
    """The first elements of a tensor, one after another; a view where that can be."""
    import torch

    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    if tensor.numel() > PIECE:
        if type(tensor) is torch.Tensor and tensor.is_contiguous():
            return tensor.as_strided((PIECE,), (1,))  # what is below, in a third of the time
        row = tensor.numel() // tensor.shape[0]
        tensor = tensor[: -(-PIECE // row)]
    flat = tensor.reshape(-1)
    return flat[:PIECE] if flat.numel() > PIECE else flat


def piece_of_gradient(parameter: Tensor, like: Tensor) -> Tensor:
    """The elements of the gradient that belong to a piece of its parameter; zeros if they cannot be had."""
    import torch

    grad = parameter.grad
    if grad is None or grad.layout is not torch.strided:
        return torch.zeros_like(like)
    found = piece(local(grad))
    if found.shape != like.shape:
        return torch.zeros_like(like)
    return found if found.dtype is like.dtype else found.to(like.dtype)


def alike(parameters: Sequence[Tensor]) -> list[list[int]]:
    """Which parameters have the same device and dtype; without those that have no values."""
    found: dict[Any, list[int]] = {}
    for index, parameter in enumerate(parameters):
        if plain(parameter) is not None:
            found.setdefault((parameter.device, parameter.dtype), []).append(index)
    return list(found.values())


def norms(groups: list[list[int]], parameters: Sequence[Tensor]) -> tuple[list[Tensor], list[int]]:
    """The norms of the gradients as few flat tensors, and whose each of the numbers is; groups as by `alike`."""
    import torch

    found: list[Tensor] = []
    order: list[int] = []
    strided = torch.strided
    for indices in groups:
        part: list[Tensor] = []
        whose: list[int] = []
        dtype = parameters[indices[0]].dtype
        for index in indices:
            grad = parameters[index].grad
            if grad is None:
                continue
            if type(grad) is not torch.Tensor or grad.layout is not strided or grad.dtype is not dtype:
                values = plain(grad)
                if values is None:
                    continue
                grad = values.to(dtype)
            part.append(grad)
            whose.append(index)
        if not part:
            continue
        if dtype in (torch.float16, torch.bfloat16):  # whose own norm may overflow
            part = [grad.float() for grad in part]
        found.append(torch.stack(torch._foreach_norm(part)))
        order += whose
    return found, order


def finite(tensor: Tensor) -> bool:
    """Whether all values are finite. Reads them, so only where something is amiss."""
    return bool(tensor.isfinite().all())


def half(tensor: Tensor) -> str:
    """The dtype of a tensor if it is one of half precision, else nothing."""
    import torch

    return str(tensor.dtype).removeprefix("torch.") if tensor.dtype in (torch.float16, torch.bfloat16) else ""


def lost_bits(grad: Tensor) -> float | None:
    """The part of zeros in a gradient whose values float16 has all but lost; None if it has not.

    Reads values, so only where the norm is that small. Below 2^-14 float16 has fewer bits the smaller a number is, and
    none below 2^-24. A float32 gradient that was computed in float16 shows it by being exactly of that grid.
    """
    import torch

    size = grad.abs()
    top = float(size.max())
    if top == 0 or top >= HALF_NORMAL or grad.is_complex():
        return None
    if grad.dtype == torch.float32:
        if not torch.equal(size.half().float(), size):
            return None
    elif grad.dtype != torch.float16:
        return None
    zeros = float((size == 0).float().mean())
    return zeros if zeros >= _SOME else None
