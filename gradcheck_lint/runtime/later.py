"""Reading small tensors without making the program wait for its accelerator.

On the CPU a value is there when it is asked for. Elsewhere the copy is only begun; what is to be done with the numbers
is done when an event says that they have arrived, or when the watching ends.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

MOST = 64  # readings under way; a device without events gives its numbers when there are more than these


class _Reading(NamedTuple):
    copies: list[Tensor]
    event: Any  # None where the device has no events
    then: Callable[[list[list[float]]], object]


class Later:
    """Readings that are under way, in the order in which they were begun."""

    def __init__(self) -> None:
        self._under_way: deque[_Reading] = deque()

    def __len__(self) -> int:
        return len(self._under_way)

    def read(self, tensors: list[Tensor], then: Callable[[list[list[float]]], object]) -> None:
        """Give the values of these flat tensors to `then`: at once on the CPU, else when they are there."""
        if all(tensor.is_cpu for tensor in tensors):
            then([_list(tensor) for tensor in tensors])
            return
        if any(tensor.is_meta for tensor in tensors):
            return
        event = None
        copies = []
        for tensor in tensors:
            copies.append(_copy(tensor))
            event = _event(tensor) or event
        self._under_way.append(_Reading(copies, event, then))

    def poll(self) -> None:
        """Deal with what has arrived."""
        while self._under_way:
            first = self._under_way[0]
            if len(self._under_way) <= MOST and (first.event is None or not first.event.query()):
                return
            self._take()

    def finish(self) -> None:
        """Wait for all that is under way and deal with it."""
        while self._under_way:
            self._take()

    def _take(self) -> None:
        reading = self._under_way.popleft()
        if reading.event is not None:
            reading.event.synchronize()
        reading.then([_list(copy) for copy in reading.copies])


def _list(tensor: Tensor) -> list[float]:
    values: list[float] = tensor.detach().reshape(-1).tolist()
    return values


def _copy(tensor: Tensor) -> Tensor:
    """A copy in the memory of the host that is filled later; the tensor itself where that cannot be had."""
    import torch

    if tensor.device.type != "cuda":
        return tensor.detach()
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return host.copy_(tensor.detach(), non_blocking=True)


def _event(tensor: Tensor) -> Any:
    """An event behind the work that was given to the tensor's device so far."""
    import torch

    if tensor.device.type != "cuda":
        return None
    event: Any = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record(torch.cuda.current_stream(tensor.device))
    return event
