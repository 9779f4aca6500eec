"""Mixed precision that is meant and does not happen: all layers behind a loss have computed in float32.

Only the first losses are looked at, and only where something says that mixed precision is meant: an autocast block was
entered, a `GradScaler` has scaled the loss, or the `forward` of the model was wrapped in autocast. Sighting:
"autocast-lost", with `how`: "outside" (the layers ran before or after the block), "device" (the block is for another
device), "forward" (the layers were called past the `forward` that is wrapped), "unused" (a block was entered and has
nothing to do with the loss), "scaler" (there was no block at all).
"""

from __future__ import annotations

import gc
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from gradcheck_lint.runtime import regions
from gradcheck_lint.runtime.checks import Check
from gradcheck_lint.runtime.graph import LIMIT, kind
from gradcheck_lint.runtime.scaling import is_scaled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor
    from torch.nn import Module

    from gradcheck_lint.runtime.observer import Observer
    from gradcheck_lint.runtime.record import Event
    from gradcheck_lint.runtime.regions import Region
    from gradcheck_lint.runtime.session import Session

_LOSSES = 4  # that are looked at after an optimizer is met
_HALF = ("float16", "bfloat16")
_LAYERS = frozenset(
    {"Addmm", "Mm", "Bmm", "Baddbmm", "Addbmm", "Linear", "Convolution", "ConvolutionOverrideable", "MkldnnConvolution",
     "CudnnConvolution", "MpsConvolution"}
)  # fmt: skip
"""What autocast computes in half precision, as the nodes of the graph are called."""
_SHAPES = frozenset({"T", "Transpose", "Permute", "View", "UnsafeView", "Reshape", "ReshapeAlias", "Expand", "Alias"})
_DEEP = 4  # changes of shape between a weight and the layer that multiplies with it
_WRAPS = 12  # functions around a `forward` that are looked into


class Layers(NamedTuple):
    """The layers behind a loss, none of which has half precision anywhere near it."""

    weights: tuple[Tensor, ...]
    numbers: tuple[int, ...]  # of their nodes
    every: tuple[int, ...]  # of all nodes
    leaves: frozenset[int]  # ids


class Precision(Check):
    """Reads dtypes and numbers of nodes, never values."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._left = 0  # losses that are still to be looked at
        self._before = 0  # how many blocks there had been when the last step ended
        self._told: set[int] = set()  # observers

    def attached(self, observer: Observer) -> None:
        self._left = _LOSSES

    def after_update(self, observer: Observer) -> None:
        self._before = regions.count()

    def ended(self) -> None:
        regions.forget()

    def backward_begins(self, roots: Sequence[Tensor], event: Event, options: dict[str, Any]) -> None:
        if not self._left or not regions.available():
            return
        self._left -= 1
        thread = threading.get_ident()
        blocks = [block for block in regions.RECENT if block.thread == thread]
        meant = [block for block in blocks if block.on and block.grad and block.dtype in _HALF]
        scaled = is_scaled(roots)
        wrapped = [] if meant else [module for _, module in self.session.models.modules() if _wrapped(module)]
        if not (meant or scaled or wrapped):
            return
        layers = find(roots, self.session.held())
        if layers is None or any(not block.on and _any(block, layers.numbers) for block in blocks):
            return  # somebody has turned it off here
        owners = [o for o in self.session.observers.values() if o.ids() & {id(w) for w in layers.weights}]
        if owners and owners[0].watched.index not in self._told:
            self._judge(owners[0], event, layers, meant, wrapped, scaled=scaled)

    def _judge(
        self,
        observer: Observer,
        event: Event,
        layers: Layers,
        meant: list[Region],
        wrapped: list[Module],
        *,
        scaled: bool,
    ) -> None:
        around = [block for block in meant if _any(block, layers.numbers)]
        beside = [block for block in meant if _any(block, layers.every)]
        since = [block for block in meant if block.number > self._before]
        device = layers.weights[0].device.type
        if around:
            if all(block.device != weight.device.type for block in around for weight in layers.weights):
                self._tell(observer, event, layers, "device", around[-1], sure=True)
            return  # else nobody knows why it had no effect
        if beside:
            sure = scaled or (beside[-1].own and not self._others(layers))
            self._tell(observer, event, layers, "outside", beside[-1], sure=sure)
        elif wrapped and not since:
            inside = {id(p) for module in wrapped for p in module.parameters()}
            if all(id(weight) in inside for weight in layers.weights):
                self._tell(observer, event, layers, "forward", None, sure=True)
        elif scaled and since:
            sure = since[-1].device == device and not self._others(layers)
            self._tell(observer, event, layers, "unused", since[-1], sure=sure)
        elif scaled:
            self._tell(observer, event, layers, "scaler", None, sure=False)

    def _tell(
        self, observer: Observer, event: Event, layers: Layers, how: str, block: Region | None, *, sure: bool
    ) -> None:
        self._told.add(observer.watched.index)
        observer.sight(
            "autocast-lost",
            block.mark if block is not None else event.mark,
            names=tuple(observer.name(weight) for weight in layers.weights),
            step=observer.watched.steps + 1,
            how=how,
            sure=sure,
            device=layers.weights[0].device.type,
            meant=block.device if block is not None else "",
            dtype=block.dtype if block is not None else "",
            backward=event.mark,
        )

    def _others(self, layers: Layers) -> bool:
        """Whether there is a network that this loss does not train, such as a teacher; looks at all objects."""
        known = self.session.held() | layers.leaves
        if not _strangers(known):
            return False
        if gc.isenabled():
            gc.collect()  # some may be left of what the program has done before
        return _strangers(known)


def _strangers(known: set[int] | frozenset[int]) -> bool:
    """Whether a module has a parameter that is none of these."""
    from torch.nn import Module

    return any(
        parameter is not None and id(parameter) not in known
        for thing in gc.get_objects()
        if issubclass(type(thing), Module)
        for parameter in vars(thing).get("_parameters", {}).values()
    )


def find(roots: Sequence[Tensor], held: set[int]) -> Layers | None:
    """The layers behind a loss; None where something is in another precision, or not to be seen."""
    todo = deque(root.grad_fn for root in roots if root.grad_fn is not None)
    seen: set[Any] = set(todo)
    weights: dict[int, Tensor] = {}
    numbers, every, leaves = [], [], set()
    while todo:
        node: Any = todo.popleft()
        name = kind(node)
        if name == "AccumulateGrad":
            leaves.add(id(node.variable))
            continue
        if not _plain(node):
            return None
        every.append(node._sequence_nr())
        if name in _LAYERS and (weight := _weight(node, held)) is not None:
            weights[id(weight)] = weight
            numbers.append(every[-1])
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                todo.append(following)
        if len(seen) > LIMIT:
            return None
    return Layers(tuple(weights.values()), tuple(numbers), tuple(every), frozenset(leaves)) if weights else None


def _plain(node: Any) -> bool:
    """Whether a node computes in float32, and is one of torch's own, which tell what they do."""
    import torch

    about = getattr(node, "_input_metadata", None)
    if about is None or hasattr(type(node), "_forward_cls") or "Cpp" in type(node).__name__:
        return False
    return all(getattr(each, "dtype", torch.float32) in (torch.float32, torch.complex64) for each in about)


def _weight(node: Any, held: set[int]) -> Tensor | None:
    """The weight that a layer multiplies with, if an optimizer has it."""
    import torch

    for following, _ in node.next_functions:
        for _ in range(_DEEP):
            if following is None or kind(following) not in _SHAPES:
                break
            following = following.next_functions[0][0]
        if following is not None and kind(following) == "AccumulateGrad":
            weight: Tensor = following.variable
            if id(weight) in held and weight.ndim > 1 and weight.dtype == torch.float32:
                return weight
    return None


def _any(block: Region, numbers: Sequence[int]) -> bool:
    return any(block.made(number) for number in numbers)


def _wrapped(module: Module) -> bool:
    """Whether somebody has put a `forward` into this very module that runs under autocast."""
    from torch.amp.autocast_mode import autocast

    function = vars(module).get("forward")
    for _ in range(_WRAPS):
        function = getattr(function, "__func__", function)
        for cell in getattr(function, "__closure__", None) or ():
            try:
                context = cell.cell_contents
            except ValueError:  # empty as yet
                continue
            if isinstance(context, autocast):
                return bool(context._enabled) and str(context.fast_dtype).removeprefix("torch.") in _HALF
        function = getattr(function, "__wrapped__", None)
        if function is None:
            return False
    return False
