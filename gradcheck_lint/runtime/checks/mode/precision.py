"""Mixed precision that is meant and does not happen: all layers behind a loss have computed in float32.

Only the first losses are looked at, and only where something says that mixed precision is meant: an autocast block was
entered, or the `forward` of the model was wrapped in autocast. A `GradScaler` alone does no harm.

Sighting: FullPrecision, with `how`: "outside" (the layers ran before or after the block), "device" (the block is for
another device), "forward" (the layers were called past the `forward` that is wrapped), "unused" (a block was entered
and has nothing to do with the loss, which is scaled).
"""

from __future__ import annotations

import gc
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from gradcheck_lint.laws.mode import Lost, lost
from gradcheck_lint.runtime import patches, regions
from gradcheck_lint.runtime.check import Check
from gradcheck_lint.runtime.graph import LIMIT, kind
from gradcheck_lint.runtime.objects import instances
from gradcheck_lint.runtime.scaling import is_scaled
from gradcheck_lint.runtime.sightings.mode import FullPrecision
from gradcheck_lint.runtime.sites import resolve

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor
    from torch.nn import Module

    from gradcheck_lint.runtime.observer import Observer
    from gradcheck_lint.runtime.record import Event
    from gradcheck_lint.runtime.regions import Region
    from gradcheck_lint.runtime.session import Session
    from gradcheck_lint.runtime.sites import Mark

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


class Graph(NamedTuple):
    """What is behind a loss."""

    plain: bool  # whether all of it is in float32, and to be seen
    weights: dict[int, Tensor]  # by id: those that layers multiply with and an optimizer has
    layers: tuple[int, ...]  # the numbers of these layers' nodes
    nodes: tuple[int, ...]  # those of all nodes
    leaves: set[int]  # ids


class Suspicion(NamedTuple):
    """A loss that may have lost its mixed precision. Holds no tensor."""

    how: Lost
    weights: frozenset[int]  # ids
    names: tuple[str, ...]
    device: str
    leaves: frozenset[int]  # ids
    block: Region | None
    event: Event
    scaled: bool


class Precision(Check):
    """Reads dtypes and numbers of nodes, never values."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._left = 0  # losses that are still to be looked at
        self._before = 0  # how many blocks there had been when the last step ended
        self._suspected: list[Suspicion] = []  # since that step
        self._works: set[int] = set()  # ids of what another loss reaches that has half precision, or may have
        self._told: set[int] = set()  # observers

    def attached(self, observer: Observer) -> None:
        self._left = _LOSSES
        if self.session in patches.ACTIVE:
            regions.look(self.session)

    def backward_begins(self, roots: Sequence[Tensor], event: Event, options: dict[str, Any]) -> None:
        if not self._left or not regions.available():
            return
        self._left -= 1
        self._look(roots, event)
        if not self._left:
            regions.look_away(self.session)

    def _look(self, roots: Sequence[Tensor], event: Event) -> None:
        thread = threading.get_ident()
        blocks = [block for block in regions.RECENT if block.thread == thread]
        meant = [block for block in blocks if block.on and block.grad and block.dtype in _HALF]
        since = [block for block in meant if block.number > self._before]
        wrapped = [module for _, module in self.session.models.modules() if _wrapped(module)]
        scaled = is_scaled(roots)
        if not (meant or wrapped):
            return
        graph = look(roots, self.session.roster.held())
        if not graph.plain:
            self._works |= graph.leaves
            return
        if not graph.weights or any(not block.on and _any(block, graph.layers) for block in blocks):
            return  # somebody has turned it off here
        how, block = _judged(graph, meant, since, wrapped, scaled=scaled)
        if how is not None:
            weights = graph.weights
            owner = next(o for o in self.session.observers.values() if weights.keys() & o.ids())
            names = tuple(owner.name(weight) for weight in reversed(weights.values()))
            device = next(iter(weights.values())).device.type
            self._suspected.append(
                Suspicion(how, frozenset(weights), names, device, frozenset(graph.leaves), block, event, scaled)
            )

    def before_update(self, observer: Observer, mark: Mark | None) -> None:
        ids = observer.ids() if self._suspected else set()
        for suspicion in self._suspected:
            weights = suspicion.weights
            if weights & ids and not weights & self._works and observer.watched.index not in self._told:
                self._told.add(observer.watched.index)
                self._tell(observer, suspicion)

    def after_update(self, observer: Observer) -> None:
        self._before = regions.count()
        if self._suspected:
            ids = observer.ids()
            self._suspected = [suspicion for suspicion in self._suspected if not suspicion.weights & ids]

    def _tell(self, observer: Observer, suspicion: Suspicion) -> None:
        how, block = suspicion.how, suspicion.block
        if how is Lost.OUTSIDE:
            sure = suspicion.scaled or (block is not None and block.own)
        elif how is Lost.UNUSED:
            sure = block is not None and block.device == suspicion.device
        else:
            sure = True
        if block is not None:
            sure = sure and not self._others(suspicion)  # for which the block may be
        self.session.take(
            FullPrecision(
                observer.scene(block.mark if block is not None else suspicion.event.mark),
                names=suspicion.names,
                how=how,
                sure=sure,
                device=suspicion.device,
                meant=block.device if block is not None else "",
                loss=resolve(suspicion.event.mark),
            )
        )

    def _others(self, suspicion: Suspicion) -> bool:
        """Whether there is a network that this loss does not train, such as a teacher; looks at all objects."""
        known = self.session.roster.held() | suspicion.leaves
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
        for module in instances(Module)
        for parameter in vars(module).get("_parameters", {}).values()
    )


def _judged(
    graph: Graph, meant: list[Region], since: list[Region], wrapped: list[Module], *, scaled: bool
) -> tuple[Lost | None, Region | None]:
    """How the mixed precision of this loss was lost, and the block that was to bring it; None if nothing says so."""
    around = [block for block in meant if _any(block, graph.layers)]
    beside = [block for block in meant if _any(block, graph.nodes)]
    devices = {weight.device.type for weight in graph.weights.values()}
    how = lost(
        around=bool(around),
        device=any(block.device in devices for block in around),
        beside=bool(beside),
        wrapped=bool(wrapped),
        past=graph.weights.keys() <= {id(p) for module in wrapped for p in module.parameters()},
        scaled=scaled,
        entered=bool(since),
    )
    blocks = {Lost.DEVICE: around, Lost.OUTSIDE: beside, Lost.UNUSED: since}.get(how) if how is not None else None
    return how, blocks[-1] if blocks else None


def look(roots: Sequence[Tensor], held: set[int]) -> Graph:
    """Walk the graph behind a loss; about two microseconds for each node."""
    todo = deque(root.grad_fn for root in roots if root.grad_fn is not None)
    seen: set[Any] = set(todo)
    plain, weights, layers, nodes, leaves = True, {}, [], [], set()
    while todo and len(seen) < LIMIT:
        node: Any = todo.popleft()
        name = kind(node)
        if name == "AccumulateGrad":
            leaves.add(id(node.variable))
            continue
        plain = plain and _plain(node)
        nodes.append(node._sequence_nr())
        if name in _LAYERS and (weight := _weight(node, held)) is not None:
            weights[id(weight)] = weight
            layers.append(nodes[-1])
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                todo.append(following)
    return Graph(plain and not todo, weights, tuple(layers), tuple(nodes), leaves)


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
