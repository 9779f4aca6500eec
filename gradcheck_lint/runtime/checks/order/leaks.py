"""Gradients that a backward for one optimizer leaves in the parameters of another, whose own step then uses them.

Two optimizers that share a part of the network fill each other's gradients by right. A leak is told from that by three
things: the other optimizer has stepped on this backward already, this one has had a backward of its own since that
the other does not use, and the one network is applied to what the other puts out, not the reverse.

Sightings: Leak (the network of the optimizer lies between the other's and the loss, as a critic behind an actor) and
LeakUpstream (it lies behind the other's, as a generator whose fakes were not detached).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from gradcheck_lint.runtime.check import Check
from gradcheck_lint.runtime.gradients import LOOKED_AT, holds_something
from gradcheck_lint.runtime.graph import kind
from gradcheck_lint.runtime.sightings.order import Leak, LeakUpstream
from gradcheck_lint.runtime.sites import resolve

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from gradcheck_lint.runtime.observer import Observer
    from gradcheck_lint.runtime.record import Event
    from gradcheck_lint.runtime.session import Session
    from gradcheck_lint.runtime.sites import Mark

_WALKS = 12  # backwards whose graph is walked, as long as there are several optimizers
_LIMIT = 20_000  # nodes; of a larger graph nothing is said
_REMEMBERED = 64  # backwards
_VIEWS = frozenset({"T", "Transpose", "View", "Permute", "Reshape", "ReshapeAlias", "Expand", "ToCopy", "Unsqueeze"})


class Order(NamedTuple):
    """How the networks of optimizers are put together in a graph: pairs of their numbers, nearer to the loss first."""

    over: frozenset[tuple[int, int]]  # the first is applied to what comes out of the second
    also: frozenset[tuple[int, int]]  # and one of its layers also, beside that, to something that does not


class Parameter(NamedTuple):
    """A parameter of one optimizer alone."""

    owner: int
    key: int


class Made(NamedTuple):
    """A backward, and whose gradients it made."""

    event: Event
    touched: frozenset[int]
    order: Order | None


class Suspicion(NamedTuple):
    """One that is certain as soon as the other optimizer is seen not to use the backward `own`."""

    observer: Observer
    other: Observer
    leaked: Event
    own: Event
    step: Mark | None
    upstream: bool
    real: bool


class Leaks(Check):
    """Keeps which backward was used by whose steps."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._order: Order | None = None
        self._walked = 0
        self._made: dict[int, Made] = {}
        self._used: dict[int, dict[int, int]] = {}  # by backward: which optimizers' steps used it, and when
        self._waiting: list[Suspicion] = []
        self._empty: dict[int, int] = {}  # by optimizer: the latest backward that found nothing in its gradients

    def backward_begins(self, roots: Sequence[Tensor], event: Event, options: dict[str, Any]) -> None:
        self._order = None
        self._look_for_empty(event)
        observers = [o for o in self.session.observers.values() if o.awake]
        if len(observers) < 2 or self._walked >= _WALKS:
            return
        self._walked += 1
        owners: dict[int, int] = {}
        for observer in observers:
            for key in observer.ids():
                owners[key] = -1 if key in owners else observer.watched.index  # what several hold is nobody's own
        self._order = order(roots, owners)

    def _look_for_empty(self, event: Event) -> None:
        """Gradients that another's step has used can have been cleared in a way that nobody sees: read a few."""
        for observer in self.session.observers.values():
            index = observer.watched.index
            suspects = [made for e in observer.window if (made := self._made.get(e.order)) is not None and made.order]
            if not any(other != index for made in suspects for other in self._used.get(made.event.order, ())):
                continue
            grads = [p.grad for p in observer.parameters() if p.grad is not None and id(p) in observer.received]
            some = grads[:: -(-len(grads) // LOOKED_AT) or 1]
            if not any(holds_something(grad) for grad in some):
                self._empty[index] = event.order

    def backward_ended(self, event: Event, touched: Sequence[Observer]) -> None:
        if len(self.session.observers) < 2 or not touched:
            return
        self._made[event.order] = Made(event, frozenset(o.watched.index for o in touched), self._order)
        while len(self._made) > _REMEMBERED:
            oldest = next(iter(self._made))
            del self._made[oldest]
            self._used.pop(oldest, None)

    def stepped(self, observer: Observer, mark: Mark | None) -> None:
        if len(self.session.observers) < 2:
            return
        now = observer.latest["step"].order
        self._settle(observer)
        window = [made for event in observer.window if (made := self._made.get(event.order)) is not None]
        for made in window:
            self._used.setdefault(made.event.order, {})[observer.watched.index] = now
        if len(window) > 1 and not observer.opaque:
            self._look(observer, window, mark)

    def ended(self) -> None:
        for leak in self._waiting:
            self._tell(leak)

    def _look(self, observer: Observer, window: list[Made], mark: Mark | None) -> None:
        mine = observer.watched.index
        others = {o.watched.index: o for o in self.session.observers.values()}
        left = [made for made in window if made.event.order >= self._empty.get(mine, -1)]
        for made in left:
            for other, when in self._used[made.event.order].items():
                own = [m for m in window if m.event.order > when and self._is_own(m, mine, other)]
                if other == mine or not own or made.order is None:
                    continue
                over = (mine, other) in made.order.over
                if over == ((other, mine) in made.order.over):
                    continue  # neither is applied to the other's output, or each is
                back = own[0].order is not None and (other, mine) in own[0].order.over
                if over == back:
                    continue  # each is trained by way of the other, or its own loss does not go through the other
                if over and (mine, other) in made.order.also:
                    continue  # it takes part without the other's output as well: the loss is one of both
                real = over or (other, mine) in made.order.also
                leak = Suspicion(observer, others[other], made.event, own[0].event, mark, not over, real)
                if own[0].touched == {mine}:
                    self._tell(leak)
                else:
                    self._waiting.append(leak)
                return

    def _is_own(self, made: Made, mine: int, other: int) -> bool:
        return other not in self._used.get(made.event.order, ()) and mine in made.touched

    def _settle(self, observer: Observer) -> None:
        """The optimizer steps: what it uses was no leak, for both were meant to have it."""
        concerned = [leak for leak in self._waiting if leak.other is observer]
        for leak in concerned:
            self._waiting.remove(leak)
            if all(event.order != leak.own.order for event in observer.window):
                self._tell(leak)

    def _tell(self, leak: Suspicion) -> None:
        scene, other = leak.observer.scene(leak.leaked.mark), leak.other.label
        own, used = resolve(leak.own.mark), resolve(leak.step)
        if leak.upstream:
            self.session.take(LeakUpstream(scene, other=other, own=own, used=used, real=leak.real))
        else:
            self.session.take(Leak(scene, other=other, own=own, used=used))


def order(roots: Sequence[Tensor], owners: dict[int, int]) -> Order | None:
    """How the networks of `owners` (by the ids of their parameters) feed each other; None if the graph is too large."""
    reached: dict[Any, frozenset[int]] = {}  # by node: whose parameters lie behind it
    own: dict[Any, Parameter] = {}  # nodes that are a parameter, or a view of one
    behind: dict[Parameter, set[frozenset[int]]] = {}  # what lies behind the other inputs where it is applied
    todo: deque[tuple[Any, bool]] = deque((root.grad_fn, False) for root in roots if root.grad_fn is not None)
    while todo:
        node, done = todo.pop()
        if node in reached:
            continue
        following = [n for n, _ in node.next_functions if n is not None]
        if not following:
            variable = getattr(node, "variable", None)
            owner = owners.get(id(variable), -1) if variable is not None else -1
            reached[node] = frozenset({owner}) if owner >= 0 else frozenset()
            if owner >= 0:
                own[node] = Parameter(owner, id(variable))
            continue
        if not done:
            if len(reached) + len(todo) > _LIMIT:
                return None
            todo.append((node, True))
            todo += [(n, False) for n in following if n not in reached]
            continue
        reached[node] = frozenset().union(*(reached[n] for n in following))
        if len(following) == 1 and following[0] in own and kind(node) in _VIEWS:
            own[node] = own[following[0]]
            continue
        rest = frozenset().union(*(reached[n] for n in following if n not in own))
        for parameter in {own[n] for n in following if n in own}:
            behind.setdefault(parameter, set()).add(rest - {parameter.owner})
    over: set[tuple[int, int]] = set()
    also: set[tuple[int, int]] = set()
    for parameter, applied in behind.items():
        reaches = frozenset().union(*applied)
        over.update((parameter.owner, far) for far in reaches)
        also.update((parameter.owner, far) for far in reaches if any(far not in some for some in applied))
    return Order(frozenset(over), frozenset(also))
