"""Windows of accumulation that are a loop of their own, over the pieces of a batch or counted: the step is behind."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from gradcheck_lint.facts import query, repair
from gradcheck_lint.facts.gates import given
from gradcheck_lint.facts.window import Located, accumulates, divides, meant, written
from gradcheck_lint.laws.answer import NO, YES
from gradcheck_lint.source import events as ev
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source import tree
from gradcheck_lint.source.holding import reaches
from gradcheck_lint.source.natures import Optimizer
from gradcheck_lint.source.place import Place
from gradcheck_lint.source.values import Thing, only

if TYPE_CHECKING:
    from gradcheck_lint.source.project import Module


class Head(NamedTuple):
    """What such a loop goes over: `range(n)`, or the `pieces` of a tensor; `size` is their number, if that is written.

    It is `certain` that they are those of one batch where inputs and targets are cut alike: pieces of inputs alone may
    be several views of what the same targets belong to.
    """

    size: tree.Expression | None
    pieces: bool
    certain: bool = False


class Nested(NamedTuple):
    """Each round of `loop` goes `backward`, and the `step` stands behind it, in `outer`.

    `body` is what the round is written as, which is another loop where that one is in a generator.
    """

    loop: tl.Loop
    body: tl.Loop
    outer: tl.Loop
    head: Head
    step: ev.Step
    backward: ev.Backward
    optimizer: Thing
    inner: Located
    home: Module

    @property
    def spoken(self) -> str:
        """What the code calls its size; "" where that is not written."""
        return repair.text(Place(self.loop.place.chunk, self.head.size)) if self.head.size is not None else ""

    @property
    def named(self) -> bool:
        """Whether it is called what a window of accumulation is."""
        return meant(self.spoken, self.home) or accumulates(self._head(self.loop)) or accumulates(self._head(self.body))

    @property
    def undivided(self) -> bool:
        """Whether nothing makes a mean of the sum: no division by its size, and nothing done to gradients by hand."""
        size = written(Place(self.loop.place.chunk, self.head.size)) if self.head.size is not None else ""
        if size and (divides(self.loop, size) or divides(self.body, size)):
            return False
        return not any(
            isinstance(n, tree.Attribute) and n.attr == "grad"
            for loop in (self.outer, self.body)
            for n in loop.node.walk()
        )

    def _head(self, loop: tl.Loop) -> str:
        node = loop.node
        return repair.text(Place(loop.place.chunk, node.iter)) if isinstance(node, tree.For) else ""


def nested_windows(timeline: tl.Timeline) -> Iterator[Nested]:
    """The windows of an entry point that are loops; those that clear in their rounds are none."""
    for window in query.once(timeline, _nested):
        if not any(isinstance(e, ev.Zero) for e, _ in window.inner):
            yield window


def cleared_within(timeline: tl.Timeline) -> Iterator[tuple[Nested, ev.Zero]]:
    """The loops over pieces of a batch that clear in each round what the round before has computed."""
    if not timeline.has(ev.Zero) or timeline.cut or timeline.hooked:
        return
    for window in query.once(timeline, _nested):
        if _used_by_hand(timeline, window):
            continue
        for event, around in window.inner:
            inside = query.inside(around, window.loop)
            if isinstance(event, ev.Zero) and reaches(event.subject, window.optimizer) is YES:
                if query.always(inside) and not query.loops(inside) and event.serial < window.step.serial:
                    yield window, event
                    break


def _used_by_hand(timeline: tl.Timeline, window: Nested) -> bool:
    """Whether each piece may have its gradients cleared because they are gathered elsewhere, and written back later."""
    for event, _ in timeline.within(window.outer):
        if isinstance(event, (ev.GradWrite, ev.GradChange)):
            return True
        if isinstance(event, ev.Unknown):
            if event.subject is None or reaches(event.subject, window.optimizer) is not NO:
                return True
    return _speaks_of_grad([window.outer.node, window.body.node], timeline.home.body)


def _speaks_of_grad(code: Iterable[tree.Node], home: tree.Block) -> bool:
    """Whether code, or a function of its file that it calls, reads or writes a `.grad`."""
    functions: dict[str, list[tree.Function]] = {}
    for statement in home:
        for inner in statement.body if isinstance(statement, tree.Class) else [statement]:
            if isinstance(inner, tree.Function):
                functions.setdefault(inner.name, []).append(inner)
    todo, seen = [node for part in code for node in part.walk()], set[str]()
    while todo:
        node = todo.pop()
        if isinstance(node, tree.Attribute) and node.attr == "grad":
            return True
        name = tree.last_name(node.func) if isinstance(node, tree.Call) else ""
        if name in functions and name not in seen:
            seen.add(name)
            todo += [inner for function in functions[name] for inner in tree.walk_block(function.body)]
    return False


def _nested(timeline: tl.Timeline) -> list[Nested]:
    found: list[Nested] = []
    steps = list(timeline.located(ev.Step)) if timeline.has(ev.Backward) else []
    for step, around in steps:
        optimizer, turns = only(step.subject, Optimizer), query.loops(around)
        if optimizer is None or optimizer.summary or not turns or not query.always(query.inside(around, turns[-1])):
            continue
        if sum(e.concerns(optimizer) for e, a in steps if turns[-1] in a) != 1:
            continue
        backward = [(e, a) for e, a in timeline.within(turns[-1]) if isinstance(e, ev.Backward)]
        if len(backward) != 1 or backward[0][0].engine or backward[0][0].serial > step.serial:
            continue
        inside = query.inside(backward[0][1], turns[-1])
        loops = query.loops(inside)
        if len(loops) != 1 or not query.always(inside):
            continue
        body = next((part for part in reversed(inside) if isinstance(part, tl.Loop)), loops[0])
        head = _head(loops[0], body, _code(timeline, backward[0][1], loops[0]))
        inner = timeline.within(loops[0])
        if head is None:
            continue
        window = Nested(loops[0], body, turns[-1], head, step, backward[0][0], optimizer, inner, timeline.home)
        if window.named or (head.pieces and not _carries(body.node)):
            found.append(window)
    return found


def _code(timeline: tl.Timeline, around: tuple[tl.Part, ...], loop: tl.Loop) -> tree.Block:
    """The body of the function that a loop is written in."""
    calls = [part for part in around[: around.index(loop)] if isinstance(part, tl.Call)]
    if calls and calls[-1].place.chunk is not loop.place.chunk:
        return calls[-1].function.body
    return timeline.entry.body if timeline.entry is not None else timeline.home.body


def sizes(loop: tl.Loop) -> Iterator[str]:
    """What the size of a window that is this loop is written as."""
    head = _head(loop, loop, [])
    if head is not None and head.size is not None:
        yield repair.text(Place(loop.place.chunk, head.size))


def _head(loop: tl.Loop, body: tl.Loop, code: tree.Block) -> Head | None:
    node = loop.node
    return _over(node.iter, node, body.node, code) if isinstance(node, tree.For) else None


_AROUND = frozenset({"enumerate", "tqdm", "track", "list", "zip"})
_CUTS = frozenset({"chunk", "tensor_split", "split"})


def _over(iterable: tree.Expression, node: tree.For, body: tree.Node, code: tree.Block) -> Head | None:
    """What a loop goes over, if that is a window."""
    if isinstance(iterable, tree.Name):
        value = given(iterable, code)
        return _cut(value) if isinstance(value, tree.Call) else None
    if not isinstance(iterable, tree.Call):
        return None
    name = tree.last_name(iterable.func)
    if name in _AROUND:
        found = [_over(argument.value, node, body, code) for argument in iterable.args if not argument.keyword]
        if name != "zip":
            return found[0] if found else None
        first = next((head for head in found if head is not None and head.pieces), None)
        return first._replace(certain=all(head is not None for head in found)) if first is not None else None
    if name == "range" and len(iterable.args) in (1, 3):
        sliced = _sliced(node, node.target.id) if isinstance(node.target, tree.Name) else set()
        size = iterable.args[0].value if len(iterable.args) == 1 else None
        return Head(size, bool(sliced), certain=len(sliced) > 1) if sliced or size is not None else None
    return _cut(iterable)


def _cut(call: tree.Call) -> Head | None:
    """`x.chunk(n)`, `torch.split(x, m)`: the pieces of a tensor, along its first dimension."""
    name = tree.last_name(call.func)
    if name not in _CUTS or not isinstance(call.func, tree.Attribute):
        return None
    plain = [a.value for a in call.args if not a.keyword]
    if tree.dotted(call.func.value) == "torch":
        plain = plain[1:]
    along = next((a.value for a in call.args if a.keyword == "dim"), plain[1] if len(plain) > 1 else None)
    if not plain or (along is not None and not (isinstance(along, tree.Constant) and along.value == 0)):
        return None
    if isinstance(plain[0], tree.Constant) and not isinstance(plain[0].value, int):
        return None  # a text
    return Head(None if name == "split" else plain[0], pieces=True)


def _sliced(loop: tree.For, name: str) -> set[str]:
    """What the body of a loop takes slices of that begin at its counter: `x[i : i + m]`, `x[i * m : (i + 1) * m]`."""
    found: set[str] = set()
    for node in loop.walk():
        if isinstance(node, tree.Subscript):
            index = node.index.items[0] if isinstance(node.index, tree.Display) and node.index.items else node.index
            first = index.parts[0] if isinstance(index, tree.Slice) and index.parts else None
            many = isinstance(first, tree.Operation) and first.op == "*"
            if name in map(tree.dotted, first.operands if many and isinstance(first, tree.Operation) else [first]):
                found.add(tree.dotted(node.value))
    return found


def _carries(body: tree.Node) -> bool:
    """Whether a round hands on what the next one computes with, as recurrent networks do: then a sum may be meant."""
    for node in body.walk():
        if isinstance(node, tree.Attribute) and node.attr in ("detach", "detach_"):
            return True
        if isinstance(node, tree.Assign) and isinstance(node.value, tree.Call):
            names = {n.id for t in node.targets for n in t.walk() if isinstance(n, tree.Name)}
            if any(isinstance(n, tree.Name) and n.id in names for a in node.value.args for n in a.walk()):
                return True
    return False
