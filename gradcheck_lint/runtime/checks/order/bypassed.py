"""Training through a wrapper or a framework, and past it: what it would have done is then left out.

DistributedDataParallel averages gradients inside backward, by collectives that its process group counts. A backward
that was to be averaged and after which that number has not moved, up to the step, was not averaged by anybody.
Lightning and Accelerate are asked by what they themselves keep. Sightings: Unsynchronised, ClosureSkipped,
NothingReturned, PlainBackward, Unprepared.
"""

from __future__ import annotations

import sys
import weakref
from typing import TYPE_CHECKING, Any, Literal

from gradcheck_lint.runtime import sites
from gradcheck_lint.runtime.call import Call
from gradcheck_lint.runtime.check import Check
from gradcheck_lint.runtime.objects import instances
from gradcheck_lint.runtime.replicas import Replica, replicas, spread
from gradcheck_lint.runtime.sightings.order import (
    ClosureSkipped,
    NothingReturned,
    PlainBackward,
    Unprepared,
    Unsynchronised,
)
from gradcheck_lint.runtime.sites import resolve

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from torch import Tensor
    from torch.nn import Module

    from gradcheck_lint.runtime.observer import Observer
    from gradcheck_lint.runtime.record import Event
    from gradcheck_lint.runtime.session import Session
    from gradcheck_lint.runtime.sites import Mark

SEARCHES = 20  # how often all objects are searched for wrappers
_LOOP = "_AutomaticOptimization"
_DIVISIONS = frozenset({"DivBackward0", "MulBackward0"})


class _Window:
    """The backwards since the last step that went into the parameters of one wrapper."""

    def __init__(self, begun: int) -> None:
        self.begun = begun  # the number of collectives before the first of them
        self.meant = False  # whether one of them was to be averaged


class Bypassed(Check):
    """Silent where neither a wrapper nor a framework is in use."""

    hears = frozenset({Call.MODULE_APPLY})

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.alone: set[int] = set()  # optimizers whose gradients were not averaged, though they should have been
        self._replicas: list[Replica] = []
        self._searches = 0
        self._before: list[tuple[Replica, int, bool]] = []
        self._windows: dict[tuple[int, int], _Window] = {}
        self._times: dict[tuple[str, int], int] = {}
        self._nodes: list[tuple[Replica, Any]] = []
        self._moving = 0
        self._moved: dict[int, Mark | None] = {}
        self._prepared: weakref.WeakSet[Any] = weakref.WeakSet()
        self._plain: Mark | None = None

    # DistributedDataParallel

    def _search(self) -> None:
        if self._searches >= SEARCHES:
            return
        self._searches += 1
        known = {id(replica.wrapper) for replica in self._replicas}
        self._replicas = [replica for replica in self._replicas if replica.wrapper is not None]
        self._replicas += [replica for replica in replicas() if id(replica.wrapper) not in known]

    def call_begins(self, kind: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if kind is not Call.MODULE_APPLY:
            return
        self._moving += 1
        if self._moving == 1 and spread():
            self._search()
            moving = {id(parameter) for parameter in args[0].parameters()}
            self._nodes = [(replica, _node(replica)) for replica in self._replicas if replica.ids & moving]

    def call_ended(
        self, kind: Call, args: tuple[Any, ...], kwargs: dict[str, Any], result: object, error: BaseException | None
    ) -> None:
        if kind is not Call.MODULE_APPLY:
            return
        self._moving -= 1
        if self._moving == 0:
            for replica, node in self._nodes:
                if node is not None and _node(replica) is not node:
                    self._moved[id(replica)] = sites.here(2)
            self._nodes = []

    def backward_begins(self, roots: Sequence[Tensor], event: Event, options: dict[str, Any]) -> None:
        if self.session.backwards == 1 and spread():
            self._search()
        self._before = [(replica, replica.collectives(), replica.synchronises) for replica in self._replicas]
        if "accelerate" in sys.modules:
            self._plain = event.mark if _accumulates() > 1 and _past_accelerate(roots) else None

    def backward_ended(self, event: Event, touched: Sequence[Observer]) -> None:
        for replica, begun, meant in self._before:
            if begun < 0:
                continue
            for observer in touched:
                if replica.ids & observer.ids():
                    window = self._windows.setdefault((observer.watched.index, id(replica)), _Window(begun))
                    window.meant = window.meant or meant
        self._before = []
        if self._plain is not None:
            self._judge_plain(touched)

    def _judge_averaging(self, observer: Observer, mark: Mark | None) -> None:
        index = observer.watched.index
        for replica in self._replicas:
            window = self._windows.pop((index, id(replica)), None)
            if window is None or not window.meant or replica.hooked or replica.wrapper is None:
                continue
            if replica.collectives() != window.begun:
                self._times.pop(("averaging", id(replica)), None)
                continue
            times = self._again("averaging", id(replica))
            how: Literal["moved", "raw", ""] = ""
            if id(replica) in self._moved:
                how = "moved"
            elif not replica.called or (times == 2 and replica.rounds == 0):
                how = "raw"
            if how or times == 2:
                self.alone.add(index)
                self.session.take(
                    Unsynchronised(
                        observer.scene(observer.mark_of("backward") or mark),
                        names=tuple(observer.name(p) for p in observer.parameters() if id(p) in replica.ids),
                        how=how,
                        model=self._called(replica.wrapper),
                        moved=resolve(self._moved.get(id(replica))),
                    )
                )

    def _called(self, wrapper: Module) -> str:
        return next((name for name, model in self.session.models if model is wrapper and name), "model")

    def _again(self, what: str, key: int) -> int:
        """How often this has been seen in a row, with now."""
        times = self._times[what, key] = self._times.get((what, key), 0) + 1
        return times

    # Lightning and Accelerate

    def before_update(self, observer: Observer, mark: Mark | None) -> None:
        if self._replicas:
            self._judge_averaging(observer, mark)
        if "lightning.pytorch" in sys.modules or "pytorch_lightning" in sys.modules:
            self._judge_closure(observer, mark)
        if "accelerate" in sys.modules:
            self._judge_prepared(observer, mark)

    def _judge_closure(self, observer: Observer, mark: Mark | None) -> None:
        """Lightning's automatic optimisation puts `training_step` and backward into a closure for the step to call."""
        closure = _closure()
        if closure is None:
            return
        result = getattr(closure, "_result", self)
        index = observer.watched.index
        if result is None:
            observer.broken = True  # which is why it has no gradients
            if self._again("closure", index) == 1:  # Lightning itself raises as soon as the step is over
                self.session.take(ClosureSkipped(observer.scene(mark)))
        elif getattr(result, "closure_loss", self) is None:
            observer.broken = True
            if self._again("nothing", index) == 3:
                self.session.take(NothingReturned(observer.scene(mark)))
        else:
            self._times["nothing", index] = 3  # some batches are left out on purpose

    def _judge_plain(self, touched: Sequence[Observer]) -> None:
        """`loss.backward()` where `accelerator.backward(loss)` would have divided by the number of micro-batches."""
        mark, self._plain = self._plain, None
        for observer in touched:
            if self._again("plain", observer.watched.index) == 2 and self._is_prepared(observer):
                self.session.take(PlainBackward(observer.scene(mark), number=_accumulates()))

    def _judge_prepared(self, observer: Observer, mark: Mark | None) -> None:
        """Between the last micro-batches of a window a prepared optimizer makes no step; another does."""
        state = _accumulation()
        if state is None or state.sync_gradients or _through_accelerate():
            return
        if self._again("unprepared", observer.watched.index) == 2 and not self._is_prepared(observer):
            self.session.take(Unprepared(observer.scene(mark), number=_accumulates()))

    def _is_prepared(self, observer: Observer) -> bool:
        """Whether Accelerate has wrapped the optimizer. Searches all objects; asked but once or twice of each."""
        optimizer = observer.optimizer
        if not any(wrapper.optimizer is optimizer for wrapper in self._prepared) and self._searches < SEARCHES:
            self._searches += 1
            wrapper = sys.modules["accelerate.optimizer"].AcceleratedOptimizer
            self._prepared.update(instances(wrapper))
        return any(wrapper.optimizer is optimizer for wrapper in self._prepared)


def _node(replica: Replica) -> Any:
    """The node of the graph that fills the gradient of one of its parameters; the wrapper's hook is on that node."""
    wrapper = replica.wrapper
    for parameter in wrapper.parameters() if wrapper is not None else ():
        if id(parameter) in replica.ids and parameter.is_leaf:
            from torch.autograd.graph import get_gradient_edge

            return get_gradient_edge(parameter).node
    return None


def _closure() -> Any:
    """The closure of Lightning's loop that is on the way, None outside of one."""
    frame: FrameType | None = sys._getframe(3)
    while frame is not None:
        if frame.f_code.co_name == "_optimizer_step" and frame.f_code.co_filename.endswith("automatic.py"):
            variables = sites.variables(frame)
            if type(variables.get("self")).__name__ == _LOOP:
                return variables.get("train_step_and_backward_closure")
        frame = frame.f_back
    return None


def _accumulation() -> Any:
    """Accelerate's state of the accumulation, None where there is no Accelerator."""
    module = sys.modules.get("accelerate.state")
    if module is None or not module.GradientState._shared_state:
        return None
    return module.GradientState()


def _accumulates() -> int:
    """Over how many micro-batches Accelerate is to accumulate."""
    state = _accumulation()
    return int(state.num_steps) if state is not None else 1


def _past_accelerate(roots: Sequence[Tensor]) -> bool:
    """Whether backward was called on a loss that nobody has divided, and not by Accelerate."""
    divided = any(type(root.grad_fn).__name__ in _DIVISIONS for root in roots)
    return not divided and not _through_accelerate()


def _through_accelerate() -> bool:
    """Whether a frame of Accelerate's lies between the user's code and here."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        file = frame.f_code.co_filename
        if not sites.foreign(file):
            return False
        if "accelerate" in file and file.endswith(("accelerator.py", "optimizer.py")):
            return True
        frame = frame.f_back
    return True
