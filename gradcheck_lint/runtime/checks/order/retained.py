"""Graphs that go backward twice: after a step has changed the weights, or although they were freed.

Sightings: GraphAgain (the same loss goes backward after a step), GraphGrows (each backward of a window goes through
the graphs of those before it as well), GraphFreed (torch refuses, for a part of the
graph was freed by an earlier backward), GraphOutdated (torch refuses, for a step has changed what an old part of
the graph needs).
"""

from __future__ import annotations

from collections import deque
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from gradcheck_lint.runtime import sites
from gradcheck_lint.runtime.check import Check
from gradcheck_lint.runtime.graph import terms
from gradcheck_lint.runtime.references import Ref
from gradcheck_lint.runtime.sighting import Scene
from gradcheck_lint.runtime.sightings.order import GraphAgain, GraphFreed, GraphGrows, GraphOutdated
from gradcheck_lint.runtime.sites import resolve

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from gradcheck_lint.runtime.record import Event
    from gradcheck_lint.runtime.session import Session
    from gradcheck_lint.runtime.sites import Mark

_KEY = "gradlint-backward"
_TIMES = 4  # backwards in a row of one window
_LIMIT = 5_000  # nodes that are searched for one that was freed
_FREED = "backward through the graph a second time"
_CHANGED = "modified by an inplace operation"


class Ran(NamedTuple):
    """A backward that has run."""

    number: int
    steps: int  # of all optimizers, that were done before
    mark: Mark | None
    retained: bool
    born: int  # the number that torch gave to the last node of the loss


class Growing(NamedTuple):
    """The backwards of one line since the last step, that keep their graphs."""

    mark: Mark | None
    steps: int
    sizes: list[int]  # of the graphs, in nodes


class Retained(Check):
    """Marks the last node of each loss, and explains what torch says when a graph is used again."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._latest: deque[Ran] = deque(maxlen=16)
        self._roots: list[Ref] = []
        self._heard = 0  # the order of the latest backward that was seen to begin
        self._before: Ran | None = None  # the earlier backward of the loss that goes backward now
        self._growing = Growing(None, -1, [])
        self._grown = False  # that one grows was told

    def backward_begins(self, roots: Sequence[Tensor], event: Event, options: dict[str, Any]) -> None:
        retained, born = bool(options.get("retain_graph")), max((_born(root.grad_fn) for root in roots), default=-1)
        now = Ran(self.session.backwards, self.session.steps, event.mark, retained, born)
        self._roots = [Ref(root) for root in roots]
        self._before = None
        for root in roots:
            node: Any = root.grad_fn
            if node is not None:
                self._before = node.metadata.get(_KEY, self._before)
                node.metadata[_KEY] = now
        self._heard = event.order
        self._latest.append(now)
        if retained and not self._grown and len(roots) == 1 and self._before is None:
            self._grows(roots[0], now)
        before = self._before
        if before is None or before.steps == now.steps or event.mark is None:
            return
        if now.retained and before.mark == event.mark:
            self.session.take(GraphAgain(self._scene(event.mark)))

    def _grows(self, root: Tensor, now: Ran) -> None:
        """Whether the graph is larger by the same each time, since the step, and no earlier loss is a part of this."""
        if (self._growing.mark, self._growing.steps) != (now.mark, now.steps):
            self._growing = Growing(now.mark, now.steps, [])
        sizes = self._growing.sizes
        if len(sizes) < _TIMES:
            sizes.append(self.session.backward.walk([root]).nodes)
        more = {b - a for a, b in pairwise(sizes)}
        if len(sizes) < _TIMES or len(more) > 1 or min(more) * 2 < sizes[0]:
            return
        self._growing = Growing(None, -1, [])
        if not any(node.metadata.get(_KEY) not in (None, now) for node in terms(root)):
            self._grown = True
            self.session.take(GraphGrows(self._scene(now.mark), nodes=more.pop(), backwards=_TIMES))

    def backward_failed(self, event: Event, error: BaseException) -> None:
        text = str(error)
        if event.order == self.session.explained:
            return  # it is known already why
        if event.order != self._heard:
            return  # between samples nothing is known of the graph, and torch says what is the matter
        if not isinstance(error, RuntimeError) or not (_FREED in text or _CHANGED in text):
            return
        now = self._latest[-1]
        earlier = list(self._latest)[:-1]
        if _FREED in text:
            last = earlier[-1] if earlier else None
            same = last is not None and last.steps == now.steps
            names = self._shared(last.born) if self._before is None and last is not None else ()
            where = self._before or last
            freed = resolve(where.mark) if where is not None else None
            again = self._before is not None
            scene = self._scene(event.mark)
            self.session.take(GraphFreed(scene, names=names, again=again, same_round=same, freed=freed))
        elif any(ran.retained and ran.mark == now.mark and ran.steps < now.steps for ran in earlier):
            self.session.take(GraphOutdated(self._scene(event.mark)))

    def _shared(self, born: int) -> tuple[str, ...]:
        """The user's variable that holds a result whose graph was freed, and which the earlier loss was made after."""
        freed = self._freed()
        found: dict[str, int] = {}
        for frame in sites.frames(2):
            for name, value in list(frame.f_locals.items()):
                node = getattr(value, "grad_fn", None) if type(value).__name__ in ("Tensor", "Parameter") else None
                if node is not None and node in freed and 0 <= _born(node) < born and not name.startswith("_"):
                    found.setdefault(name, freed[node])
        return tuple(sorted(found, key=lambda name: found[name])[:1])

    def _freed(self) -> dict[Any, int]:
        """The nodes of the graph that have lost what they had saved, by how far they are from the loss."""
        todo = deque(root.grad_fn for ref in self._roots if (root := ref()) is not None and root.grad_fn is not None)
        seen: set[Any] = set(todo)
        found: dict[Any, int] = {}
        while todo and len(seen) < _LIMIT:
            node = todo.popleft()
            if _lost(node):
                found[node] = len(found)
            for following, _ in node.next_functions:
                if following is not None and following not in seen:
                    seen.add(following)
                    todo.append(following)
        return found

    def _scene(self, mark: Mark | None) -> Scene:
        """Of the optimizer that stepped last, or of the run where none is known."""
        stepped = [o for o in self.session.observers.values() if o.awake and "step" in o.latest]
        if stepped:
            latest = max(stepped, key=lambda o: o.latest["step"].order)
            return latest.scene(mark)
        return Scene(0, resolve(mark), next((o.watched for o in self.session.observers.values()), None))


def _born(node: Any) -> int:
    """Nodes are numbered in the order in which they are made; -1 where torch does not tell."""
    number = getattr(node, "_sequence_nr", None)
    return int(number()) if number is not None else -1


def _lost(node: Any) -> bool:
    """Whether backward has freed the tensors that this node had saved."""
    for name in dir(type(node)):
        if name.startswith("_saved_"):
            try:
                getattr(node, name)
            except RuntimeError as error:
                return "freed" in str(error)
            except Exception:
                continue
    return False
