"""Windows of gradient accumulation: a loop that goes backward each time and steps every k-th time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from gradcheck_lint.facts import query, repair
from gradcheck_lint.facts.gates import Gate, Test, gate
from gradcheck_lint.laws.answer import MAYBE, NO, YES, Answer
from gradcheck_lint.source import events as ev
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source import tree
from gradcheck_lint.source.holding import reaches
from gradcheck_lint.source.natures import Optimizer
from gradcheck_lint.source.place import Chunk, Place, segment
from gradcheck_lint.source.values import Thing, Value, only

if TYPE_CHECKING:
    from gradcheck_lint.source.amounts import Amount
    from gradcheck_lint.source.project import Module

_ACCUMULATES = re.compile(
    r"(?i)accum|acc_?(steps?|iters?|grad)|grad(ient)?_?acc|micro_?batch|\bn?_?micro(_bs|_size)?s?\b|num_micro"
    r"|(global|virtual|effective)_?batch"
)


def accumulates(name: str) -> bool:
    """Whether something is called what accumulation is."""
    return bool(_ACCUMULATES.search(name))


def meant(name: str, home: Module) -> bool:
    """Whether something is called what accumulation is, or its file gives it something that is."""
    last = name.rpartition(".")[2]
    if accumulates(name) or not last.isidentifier():
        return accumulates(name)
    given = re.finditer(rf"(?m)^[ \t]*(?:self\.)?{last}(?:\s*:[^=\n]+)?[ \t]*=(?!=)(.+)$", home.text)
    found = [accumulates(match[1]) for match in given]
    return bool(found) and all(found)


Located = Sequence[tuple[ev.Event, tuple[tl.Part, ...]]]


class Window(NamedTuple):
    """Each round of `loop` goes `backward`, and the `step` is taken where the `gate` says.

    `aside` are the branches in the loop in one arm of which all this is.
    """

    loop: tl.Loop
    gate: Gate
    step: ev.Step
    backward: ev.Backward
    optimizer: Thing
    inner: Located  # the events of the loop
    home: Module
    aside: tuple[tl.Branch, ...] = ()

    @property
    def test(self) -> Test:
        """The test that closes it."""
        return self.gate.test

    @property
    def branch(self) -> tl.Branch:
        """The branch of that test."""
        return self.gate.branch

    def each(self, event: ev.Event, around: Sequence[tl.Part]) -> bool:
        """Whether an event, inside these steps of the loop, happens in each round."""
        return (
            not self.gate.shuts(event, around)
            and query.always([part for part in around if not any(part is one for one in self.aside)])
            and not query.loops(around)
        )

    def stays_open(self, around: Sequence[tl.Part]) -> bool:
        """Whether what is inside these steps happens where the window does not close: in the `else` of its test."""
        inner = self.gate.inside(around)
        return inner is not None and query.always(inner)

    def zeros(self, *sure: Answer) -> list[tuple[ev.Zero, tuple[tl.Part, ...]]]:
        """What clears the optimizer's gradients in the loop, as surely as said, with the steps around it in there."""
        at = next(a for e, a in self.inner if e is self.step)
        found = [(e, a) for e, a in self.inner if isinstance(e, ev.Zero) and reaches(e.subject, self.optimizer) in sure]
        return [
            (e, query.inside(a, self.loop)) for e, a in found if self.gate.parts(e, a) or not query.exclusive(a, at)
        ]

    @property
    def size(self) -> int | None:
        """How many rounds it takes, if the code shows that."""
        many = self.amount
        return many.number if many is not None else None

    @property
    def amount(self) -> Amount | None:
        """What the code knows of its size."""
        return self.branch.sizes.get(id(self.test.size))

    @property
    def closes(self) -> bool:
        """Whether the gradients are cleared where the step is taken, and nowhere else in the loop."""
        found = self.zeros(YES, MAYBE)
        return bool(found) and all(self.gate.shuts(e, a) for e, a in found)

    def ungated(self) -> Iterator[ev.Step]:
        """Steps in another arm beside it that are taken in each round, after a loss that was divided by its size."""
        at = next(a for e, a in self.inner if e is self.step)
        for step, around in self.inner:
            if not isinstance(step, ev.Step) or not step.concerns(self.optimizer) or not query.exclusive(around, at):
                continue
            inside = [part for part in query.inside(around, self.loop) if not any(part is one for one in self.aside)]
            made = [e for e, a in self.inner if isinstance(e, ev.Backward) and not query.exclusive(a, around)]
            if query.always(inside) and len(made) == 1 and self._quotient(made[0].subject):
                yield step

    def _quotient(self, loss: Value | None) -> bool:
        """Whether a loss is one divided by the size."""
        place = loss.place if isinstance(loss, Thing) else None
        node = place.node if place is not None else None
        if place is None or not isinstance(node, tree.Operation) or node.op != "/":
            return False
        return repair.text(Place(place.chunk, node.operands[-1])) == self.spoken

    @property
    def counts_on(self) -> Answer:
        """Whether its count is set once, before all loops, and nothing but the loop changes it: no other function.

        Nor may its size move on, as in `if seen == following: ...; following += size`.
        """
        function = self.step.function
        body = function.body if function is not None else self.home.body
        name = tree.dotted(self.test.counter)
        if re.search(rf"\b(global|nonlocal)\b[^\n]*\b{name}\b", self.home.text):
            return NO
        if self._moves_on():
            return NO
        looped = {id(n) for loop in tree.walk_block(body) if isinstance(loop, _LOOPS) for n in loop.walk()}
        mine = {id(node) for node in self.loop.node.walk()}
        bound = [node for node in tree.walk_block(body) if any(_names(target, name) for target in _targets(node))]
        if any(id(node) in mine for node in bound if not isinstance(node, tree.Augment)):
            return NO  # `count, seen = 0, seen + 1`
        raised = [node for node in bound if isinstance(node, tree.Augment)]
        once = len(raised) == 1 and len(bound) == 2 and id(bound[0]) not in looped
        return YES if once and id(raised[0]) in mine else MAYBE

    def _moves_on(self) -> bool:
        """Whether the loop, or for an attribute anything in the file, gives what the size is made of another value."""
        parts = [n for n in self.test.size.walk() if isinstance(n, (tree.Name, tree.Attribute))]
        names = {tree.dotted(part) for part in parts} - {"", "self"}
        for node in self.loop.node.walk():
            if any(tree.dotted(part) in names for target in _targets(node) for part in target.walk()):
                return True
        if any(re.search(rf"\b(nonlocal|global)\b[^\n]*\b{re.escape(name)}\b", self.home.text) for name in names):
            return True
        last = {name.rpartition(".")[2] for name in names if "." in name}
        return any(re.search(rf"\.{re.escape(name)}\s*[-+*/]=(?!=)", self.home.text) for name in last)

    def text(self, node: tree.Node) -> str:
        """The source of an expression in the condition."""
        return repair.text(Place(self.branch.place.chunk, node))

    @property
    def named(self) -> bool:
        """Whether its size is called what a window of accumulation is."""
        return meant(written(Place(self.branch.place.chunk, self.test.size)), self.home)

    @property
    def spoken(self) -> str:
        """What the code calls its size."""
        return self.text(self.test.size)

    @property
    def divided(self) -> bool:
        """Whether something in the loop is divided by its size, as the losses of a window are."""
        size = Place(self.branch.place.chunk, self.test.size)
        if self.loop.place.chunk is size.chunk and divides(self.loop, written(size)):
            return True
        function, chunk = self.backward.function, self.backward.place.chunk
        if function is None or chunk is size.chunk:
            return False
        return _divided_by(tree.walk_block(function.body), chunk, written(size))  # by the same name, in a helper


_LOOPS = (tree.For, tree.While)


def _targets(node: tree.Node) -> list[tree.Expression]:
    """What a statement or an expression gives something to."""
    if isinstance(node, tree.Assign):
        return node.targets
    if isinstance(node, (tree.Augment, tree.For, tree.Named)):
        return [node.target]
    return [target for _, target in node.items if target is not None] if isinstance(node, tree.With) else []


def _names(target: tree.Expression, name: str) -> bool:
    return any(isinstance(part, tree.Name) and part.id == name for part in target.walk())


def windows(timeline: tl.Timeline) -> Iterator[Window]:
    """The windows of an entry point."""
    for window in _windows(timeline):
        if window.test.reset and window.size != 1:  # else that is no window
            yield window


def counted_once(timeline: tl.Timeline) -> Iterator[Window]:
    """What would be windows if the code set their count back; the gradients are cleared where it is reached."""
    for window in _windows(timeline):
        if not window.test.reset and isinstance(window.test.counter, tree.Name) and window.closes:
            if (window.named or window.divided) and window.counts_on is not NO:
                yield window


def _windows(timeline: tl.Timeline) -> Iterator[Window]:
    for step, around in timeline.located(ev.Step) if timeline.has(ev.Backward) else ():
        optimizer = only(step.subject, Optimizer)
        turns = [s for s in query.loops(around) if isinstance(s.node, (tree.For, tree.While))]
        if optimizer is None or optimizer.summary or not turns or "accumulate" in step.context:
            continue
        loop = turns[-1]
        found = gate(timeline, step, loop)
        if found is None:
            continue
        closing, aside = found
        inner = timeline.within(loop)
        if any(
            isinstance(e, ev.Step) and e.concerns(optimizer) and e is not step and not query.exclusive(a, around)
            for e, a in inner
        ):
            continue
        backward = _backward(inner, around, closing, aside)
        if backward is None:
            continue
        yield Window(loop, closing, step, backward, optimizer, inner, timeline.home, aside)


def written(place: Place) -> str:
    """How an expression is written, parentheses around it aside: told without libcst, as it is asked of each loop."""
    return " ".join(segment(place.chunk.lines, place.node.at).split())


def divides(loop: tl.Loop, size: str) -> bool:
    """Whether something in a loop is divided by what is `written` so."""
    return _divided_by(loop.node.walk(), loop.place.chunk, size)


def _divided_by(nodes: Iterable[tree.Node], chunk: Chunk, size: str) -> bool:
    for node in nodes:
        divisor: tree.Expression | None = None
        if isinstance(node, tree.Operation) and node.op == "/":
            divisor = node.operands[-1]
        elif isinstance(node, tree.Augment) and node.op == "/":
            divisor = node.value
        if divisor is not None and written(Place(chunk, divisor)) == size:
            return True
    return False


def _backward(
    inner: Located, around: Sequence[tl.Part], closing: Gate, aside: tuple[tl.Branch, ...]
) -> ev.Backward | None:
    """The backward that each round of a window runs: one, or one of several of which just one is taken."""
    found = [(e, a) for e, a in inner if isinstance(e, ev.Backward) and not query.exclusive(a, around)]
    if not found or any(e.engine or closing.parts(e, a) for e, a in found):
        return None  # each k-th round trains, and the others do something else
    loops = len(query.loops(around))
    arms: dict[int, set[int]] = {}
    branches: dict[int, tl.Branch] = {}
    for e, a in found:
        if len(query.loops(a)) != loops or any(o is not e and not query.exclusive(a, b) for o, b in found):
            return None
        for part, arm in pairwise(a):
            if isinstance(part, tl.Branch) and isinstance(arm, tl.Arm) and not any(part is one for one in aside):
                branches[id(part)] = part
                arms.setdefault(id(part), set()).add(arm.index)
    outer = {id(part) for part in around}
    for key, taken in arms.items():
        if key not in outer and taken != set(range(len(branches[key].arms))):
            return None  # some rounds run none
    last = found[-1][0]  # the plain one, where another goes through a package for mixed precision
    return last if isinstance(last, ev.Backward) else None


def counted_from_zero(window: Window) -> bool:
    """Whether what the test counts with is 0 in the first round: an index of the loop, or a counter that lags."""
    name = window.test.counter.id if isinstance(window.test.counter, tree.Name) and not window.test.kept else ""
    if not name or not isinstance(window.loop.node, tree.For):
        return False
    return counter(window.loop.node) == name or (not _indexed(window.loop.node) and _lags(window, name))


def counter(node: tree.Node) -> str:
    """The name that counts the rounds of a loop from 0, where its head says so; "" if it does not."""
    head = _head(node)
    if not isinstance(node, tree.For) or not isinstance(head, tree.Call) or len(head.args) != 1:
        return ""
    target: tree.Expression | None = None
    if tree.last_name(head.func) in ("range", "trange"):
        target = node.target
    elif tree.last_name(head.func) == "enumerate" and isinstance(node.target, tree.Display) and node.target.items:
        target = node.target.items[0]
    return target.id if isinstance(target, tree.Name) else ""


def _indexed(node: tree.Node) -> bool:
    """Whether the head of a loop counts: then what else counts is no matter of the loop."""
    head = _head(node)
    return (
        isinstance(head, tree.Call)
        and len(head.args) == 1
        and tree.last_name(head.func) in ("range", "trange", "enumerate")
        and bool(counter(node) or tree.last_name(head.func) != "enumerate")
    )


def _head(node: tree.Node) -> tree.Expression | None:
    """What a loop goes over, without a progress bar around it."""
    head = node.iter if isinstance(node, tree.For) else None
    while isinstance(head, tree.Call) and tree.last_name(head.func) in ("tqdm", "track", "list") and head.args:
        head = head.args[0].value
    return head


def _lags(window: Window, name: str) -> bool:
    """Whether a counter starts at 0 before the loop and is raised after the test."""
    node = window.loop.node
    assert isinstance(node, tree.For)
    function = window.step.function
    body = function.body if function is not None else window.home.body
    starts: list[tree.Node] = []
    for statement in tree.walk_block(body):
        if isinstance(statement, tree.Assign) and any(
            isinstance(t, tree.Name) and t.id == name for t in statement.targets
        ):
            starts.append(statement)
    if len(starts) != 1 or not isinstance(starts[0], tree.Assign) or not isinstance(starts[0].value, tree.Constant):
        return False
    if starts[0].value.value != 0 or any(s is starts[0] for s in tree.walk_block(node.body)):
        return False
    raised = [s for s in tree.walk_block(body) if isinstance(s, tree.Augment) and tree.dotted(s.target) == name]
    if len(raised) != 1 or raised[0] not in node.body:
        return False
    tests = [k for k, s in enumerate(node.body) if s is window.branch.place.node]
    return bool(tests) and node.body.index(raised[0]) > tests[0]
