"""The DistributedDataParallel wrappers there are: what they promise to keep equal, and whether they can."""

from __future__ import annotations

import sys
import weakref
from typing import TYPE_CHECKING, Any

from gradcheck_lint.runtime.objects import instances

if TYPE_CHECKING:
    from torch.nn import Module


def spread() -> bool:
    """Whether a process group runs; asks nobody."""
    distributed = _distributed()
    return distributed is not None and bool(distributed.is_initialized())


def world() -> tuple[int, int]:
    """The rank of this process and how many there are; (0, 1) without a process group."""
    distributed = _distributed()
    if distributed is None or not distributed.is_initialized():
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def _distributed() -> Any:
    module = sys.modules.get("torch.distributed")
    return module if module is not None and module.is_available() else None


def collectives(group: Any = None) -> int:
    """How many collectives this process has taken part in; -1 where the backend does not count them."""
    distributed = _distributed()
    try:
        group = group or distributed.distributed_c10d._get_default_group()
        return int(group._get_sequence_number_for_group())
    except (AttributeError, RuntimeError, ValueError):
        return -1


class Replica:
    """One wrapper, held weakly."""

    def __init__(self, wrapper: Module) -> None:
        self._ref = weakref.ref(wrapper)
        left_out = getattr(wrapper, "parameters_to_ignore", None) or ()
        inner: Any = wrapper.module
        self.ids = frozenset(
            id(parameter)
            for name, parameter in inner.named_parameters()
            if name not in left_out and parameter.requires_grad
        )

    @property
    def wrapper(self) -> Any:
        return self._ref()

    @property
    def synchronises(self) -> bool:
        """Whether the next backward is meant to average gradients; not under `no_sync()`."""
        return bool(getattr(self.wrapper, "require_backward_grad_sync", False))

    @property
    def joined(self) -> bool:
        """Whether it runs under `join()`, which allows for ranks with fewer batches."""
        return bool(getattr(getattr(self.wrapper, "_join_config", None), "enable", False))

    @property
    def hooked(self) -> bool:
        """Whether somebody else than torch decides how gradients are averaged."""
        return any(not name.endswith(".default_hooks") for name in self._hooks())

    @property
    def local(self) -> bool:
        """Whether ranks step with gradients of their own for a while, by torch's own means."""
        return any(name.endswith(".post_localSGD_hook") for name in self._hooks())

    def _hooks(self) -> list[str]:
        hooks = getattr(self.wrapper, "_comm_hooks", None) or ()
        return [getattr(hook[0] if isinstance(hook, tuple) else hook, "__module__", "") for hook in hooks]

    @property
    def called(self) -> bool:
        """Whether the wrapper itself was ever called, and not only what is in it; True if that is not known."""
        return bool(getattr(self.wrapper, "_lazy_init_ran", True))

    @property
    def rounds(self) -> int:
        """How many of its calls began a backward that was to be averaged; its own log misses the first, and most."""
        wrapper = self.wrapper
        try:
            return int(wrapper._get_ddp_logging_data().get("iteration", -1))
        except (AttributeError, RuntimeError):
            return -1

    def collectives(self) -> int:
        return collectives(getattr(self.wrapper, "process_group", None))


def replicas() -> list[Replica]:
    """All wrappers that are alive; takes up to a tenth of a second."""
    module = sys.modules.get("torch.nn.parallel.distributed")
    if module is None or not spread():
        return []
    kind = module.DistributedDataParallel
    return [Replica(wrapper) for wrapper in instances(kind)]
