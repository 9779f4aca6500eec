"""Why torch refuses a backward for a tensor that was changed in place: what changed it, and what needed it.

Looked for when torch has raised: in the graph for the node that cannot read what it saved, in the bytecode for who
writes. Sighting: SavedChanged.
"""

from __future__ import annotations

import dis
from typing import TYPE_CHECKING, Any, NamedTuple

from gradcheck_lint.runtime import sites, stores
from gradcheck_lint.runtime.check import Check
from gradcheck_lint.runtime.checks.reach.losses import roots_of
from gradcheck_lint.runtime.codes import methods, reachable
from gradcheck_lint.runtime.graph import kind
from gradcheck_lint.runtime.names import variable
from gradcheck_lint.runtime.sightings.order import SavedChanged
from gradcheck_lint.runtime.sites import Mark, resolve

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import CodeType

    from torch import Tensor

    from gradcheck_lint.runtime.record import Event

_CHANGED = "modified by an inplace operation"
_LIMIT = 20_000  # nodes that are searched
_OPERATORS = {"+=": "Add", "-=": "Sub", "*=": "Mul", "/=": "Div", "**=": "Pow", "@=": "Mm"}
_INPUTS = {"_saved_self": 0, "_saved_other": 1, "_saved_result": -1}  # -1: of the node itself
_HARMLESS = frozenset({"requires_grad_", "detach_", "zero_", "share_memory_", "retain_grad_"})


class _Needs(NamedTuple):
    """A node that has lost what it saved."""

    node: Any
    attribute: str


class _Write(NamedTuple):
    mark: Mark
    kind: str  # as `graph.kind` has it
    text: str


class Changed(Check):
    """Asks nothing before torch has refused."""

    def backward_failed(self, event: Event, error: BaseException) -> None:
        if not isinstance(error, RuntimeError) or _CHANGED not in str(error) or event.order == self.session.explained:
            return
        nodes = _nodes(roots_of(error))
        needing = [one for node in nodes if (one := _needs(node)) is not None]
        if not needing:
            return
        needs = next((one for one in needing if one.attribute != "_saved_result"), needing[0])
        leaf = self._leaf(needs.node)
        if leaf is not None:
            self._by_a_step(event, needs, leaf)
            return
        made = _producer(needs)
        lost = {one.node for one in needing}
        after = {kind(node) for node in nodes if made is not None and node not in lost and _follows(node, made)}
        layers = [
            name
            for name, module in self.session.models.modules()
            if vars(module).get("inplace") is True and type(module).__name__.lower() in {one.lower() for one in after}
        ]
        found: list[_Write] = []
        for codes in list(self._nearest())[: 1 if layers else None] if after else ():
            found = [one for code in dict.fromkeys(codes) for one in _writes(code) if one.kind in after]
            if found:
                break
        only = found[0] if len(found) == 1 and not layers else None
        self.session.take(
            SavedChanged(
                self.session.scene_of_next(only.mark if only is not None else event.mark),
                names=tuple(layers) if not found else (),
                made=kind(made).lower() if made is not None else "",
                needs=kind(needs.node).lower(),
                by=only.text if only is not None else "",
                called=resolve(event.mark),
                moved=None,
            )
        )

    def _nearest(self) -> Iterator[Iterable[CodeType]]:
        """The functions that may have changed it: who goes backward and the layers, then all that is at hand."""
        frames = sites.frames(3)
        layers = {type(module) for _, module in self.session.models.modules()}
        yield [frames[0].f_code, *(code for layer in layers for code in methods(layer))] if frames else []
        yield reachable(frames)

    def _leaf(self, node: Any) -> Tensor | None:
        """The largest parameter that goes into a node directly, or turned, and has been written to."""
        found: list[Tensor] = []
        for following, _ in node.next_functions:
            inner = following
            if inner is not None and kind(inner) in ("T", "Transpose", "Permute", "View") and inner.next_functions:
                inner = inner.next_functions[0][0]
            leaf: Tensor | None = getattr(inner, "variable", None)
            if leaf is not None and leaf._version > 0 and any(id(leaf) in o.ids() for o in self._stepped()):
                found.append(leaf)
        return max(found, key=lambda leaf: leaf.ndim, default=None)

    def _stepped(self) -> Iterable[Any]:
        return [observer for observer in self.session.observers.values() if "step" in observer.latest]

    def _by_a_step(self, event: Event, needs: _Needs, leaf: Tensor) -> None:
        """The step of the optimizer that holds it may have been between the forward pass and the backward."""
        observer = next(o for o in self._stepped() if id(leaf) in o.ids())
        name = self.session.models.name(leaf) or variable(leaf, sites.frames(2)) or "a parameter"
        self.session.take(
            SavedChanged(
                observer.scene(event.mark), names=(name,), made="", needs=kind(needs.node).lower(), by="",
                called=resolve(event.mark), moved=resolve(observer.mark_of("step")),
            )
        )  # fmt: skip


def _nodes(roots: Iterable[Tensor]) -> list[Any]:
    todo = [root.grad_fn for root in roots if root.grad_fn is not None]
    seen: dict[Any, None] = dict.fromkeys(todo)
    while todo and len(seen) < _LIMIT:
        for following, _ in todo.pop().next_functions:
            if following is not None and following not in seen:
                seen[following] = None
                todo.append(following)
    return list(seen)


def _needs(node: Any) -> _Needs | None:
    for name in dir(type(node)):
        if name.startswith("_saved_"):
            try:
                getattr(node, name)
            except RuntimeError as error:
                if _CHANGED in str(error):
                    return _Needs(node, name)
            except Exception:
                continue
    return None


def _producer(needs: _Needs) -> Any:
    """The node that has made what was changed; None where it is not known."""
    index = _INPUTS.get(needs.attribute)
    if index is None:
        return None
    if index < 0:
        return needs.node
    following = needs.node.next_functions
    return following[index][0] if index < len(following) else None


def _follows(node: Any, made: Any) -> bool:
    return any(following is made for following, _ in node.next_functions)


def _writes(code: CodeType) -> Iterator[_Write]:
    """What a function changes in place."""
    instructions = [at for at in dis.get_instructions(code) if at.opname not in ("CACHE", "PRECALL")]
    for index, at in enumerate(instructions):
        mark = Mark(code, at.offset, stores.line_of(code, at.offset))
        if at.opname == "BINARY_OP" and at.argrepr in _OPERATORS:
            yield _Write(mark, _OPERATORS[at.argrepr], at.argrepr)
        elif at.opname == "STORE_SUBSCR":
            yield _Write(mark, "CopySlices", "the assignment")
        elif index and at.opname in ("LOAD_ATTR", "LOAD_METHOD") and isinstance(at.argval, str):
            name = at.argval
            if name.endswith("_") and not name.startswith("_") and name not in _HARMLESS:
                yield _Write(mark, name.rstrip("_").title().replace("_", ""), f"`{name}`")
