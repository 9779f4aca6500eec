"""Windows of gradient accumulation: a loop that goes backward each time and steps every k-th time."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from gradcheck_lint.facts import query, repair
from gradcheck_lint.laws.answer import MAYBE, YES, Answer
from gradcheck_lint.source import events as ev
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source import tree
from gradcheck_lint.source.holding import reaches
from gradcheck_lint.source.natures import Optimizer
from gradcheck_lint.source.place import Place, segment
from gradcheck_lint.source.values import Thing, only

if TYPE_CHECKING:
    from gradcheck_lint.source.amounts import Amount
    from gradcheck_lint.source.place import Chunk
    from gradcheck_lint.source.project import Module

_ACCUMULATES = re.compile(r"(?i)accum|acc_?(steps?|iters?|grad)|grad(ient)?_?acc|micro_?batch")

Located = Sequence[tuple[ev.Event, tuple[tl.Part, ...]]]


class Test(NamedTuple):
    """`counter % size == rest`; `whole` is the entire condition that it is (a part of)."""

    counter: tree.Expression
    size: tree.Expression
    rest: tree.Expression | None  # None for `not counter % size`
    whole: tree.Expression


class Window(NamedTuple):
    """Each round of `loop` goes `backward`, and the `step` is taken where the test of `branch` holds.

    `aside` are the branches in the loop in one arm of which all this is.
    """

    loop: tl.Loop
    branch: tl.Branch
    test: Test
    step: ev.Step
    backward: ev.Backward
    optimizer: Thing
    inner: Located  # the events of the loop
    home: Module
    aside: tuple[tl.Branch, ...] = ()

    def each(self, around: Sequence[tl.Part]) -> bool:
        """Whether what is inside these steps happens in each round."""
        return query.always(
            [part for part in around if not any(part is one for one in self.aside)]
        ) and not query.loops(around)

    def stays_open(self, around: Sequence[tl.Part]) -> bool:
        """Whether what is inside these steps happens where the window does not close: in the `else` of its test."""
        for part, arm in pairwise(around):
            if part is self.branch:
                return isinstance(arm, tl.Arm) and arm.index > 0 and query.always(around[list(around).index(arm) :])
        return False

    def zeros(self, *sure: Answer) -> list[tuple[ev.Zero, tuple[tl.Part, ...]]]:
        """What clears the optimizer's gradients in the loop, as surely as said, with the steps around it in there."""
        at = next(a for e, a in self.inner if e is self.step)
        found = [(e, a) for e, a in self.inner if isinstance(e, ev.Zero) and reaches(e.subject, self.optimizer) in sure]
        return [(e, query.inside(a, self.loop)) for e, a in found if self.branch in a or not query.exclusive(a, at)]

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
        return bool(found) and all(self.branch in a and not self.stays_open(a) for _, a in found)

    def text(self, node: tree.Node) -> str:
        """The source of an expression in the condition."""
        return repair.text(Place(self.branch.place.chunk, node))

    @property
    def named(self) -> bool:
        """Whether its size is called what a window of accumulation is."""
        return _called_so(self.branch.place.chunk, self.test.size)

    @property
    def spoken(self) -> str:
        """What the code calls its size."""
        return self.text(self.test.size)

    @property
    def divided(self) -> bool:
        """Whether something in the loop is divided by its size, as the losses of a window are."""
        return self.loop.place.chunk is self.branch.place.chunk and divides(self.loop, self.test.size)


def windows(timeline: tl.Timeline) -> Iterator[Window]:
    """The windows of an entry point."""
    for step, around in timeline.located(ev.Step) if timeline.has(ev.Backward) else ():
        optimizer = only(step.subject, Optimizer)
        turns = [s for s in query.loops(around) if isinstance(s.node, (tree.For, tree.While))]
        if optimizer is None or optimizer.summary or not turns or "accumulate" in step.context:
            continue
        loop = turns[-1]
        found = _closing(query.inside(around, loop))
        if found is None:
            continue
        branch, test, aside = found
        inner = timeline.within(loop)
        if any(
            isinstance(e, ev.Step) and e.concerns(optimizer) and e is not step and not query.exclusive(a, around)
            for e, a in inner
        ):
            continue
        backward = _backward(inner, around, branch, aside)
        if backward is None:
            continue
        window = Window(loop, branch, test, step, backward, optimizer, inner, timeline.home, aside)
        if window.size != 1:  # that is no window
            yield window


class Nested(NamedTuple):
    """A window that is a loop of its own: each of its rounds goes `backward`, and the `step` stands behind it."""

    loop: tl.Loop
    size: tree.Expression
    step: ev.Step
    backward: ev.Backward
    optimizer: Thing
    inner: Located

    @property
    def spoken(self) -> str:
        """What the code calls its size."""
        return repair.text(Place(self.loop.place.chunk, self.size))

    @property
    def named(self) -> bool:
        """Whether its size is called what a window of accumulation is."""
        return _called_so(self.loop.place.chunk, self.size)


def nested_windows(timeline: tl.Timeline) -> Iterator[Nested]:
    """The windows `for … in range(n)` of an entry point, whose size is called so."""
    steps = list(timeline.located(ev.Step)) if timeline.has(ev.Backward) else []
    for step, around in steps:
        optimizer, turns = only(step.subject, Optimizer), query.loops(around)
        if optimizer is None or optimizer.summary or not turns or not query.always(query.inside(around, turns[-1])):
            continue
        if sum(e.concerns(optimizer) for e, a in steps if turns[-1] in a) != 1:
            continue
        backward = [(e, a) for e, a in timeline.within(turns[-1]) if isinstance(e, ev.Backward)]
        if len(backward) != 1 or backward[0][0].engine:
            continue
        inside = query.inside(backward[0][1], turns[-1])
        loops = query.loops(inside)
        head = loops[0].node.iter if len(loops) == 1 and isinstance(loops[0].node, tree.For) else None
        if not query.always(inside) or not isinstance(head, tree.Call) or tree.last_name(head.func) != "range":
            continue
        if len(head.args) != 1 or backward[0][0].serial > step.serial:
            continue
        window = Nested(loops[0], head.args[0].value, step, backward[0][0], optimizer, timeline.within(loops[0]))
        if (
            window.named
            and not any(isinstance(e, ev.Zero) for e, _ in window.inner)
            and not divides(window.loop, window.size)
        ):
            yield window


def _called_so(chunk: Chunk, size: tree.Expression) -> bool:
    """Whether an expression has a name in it that a window of accumulation has."""
    return bool(_ACCUMULATES.search(_written(chunk, size)))


def _written(chunk: Chunk, node: tree.Expression) -> str:
    """How an expression is written, parentheses around it aside: told without libcst, as it is asked of each loop."""
    return " ".join(segment(chunk.lines, node.at).split())


def divides(loop: tl.Loop, size: tree.Expression) -> bool:
    """Whether something in a loop is divided by what is written as `size` is, which stands in the same chunk."""
    chunk = loop.place.chunk
    wanted = _written(chunk, size)
    for node in loop.node.walk():
        divisor: tree.Expression | None = None
        if isinstance(node, tree.Operation) and node.op == "/":
            divisor = node.operands[-1]
        elif isinstance(node, tree.Augment) and node.op == "/":
            divisor = node.value
        if divisor is not None and _written(chunk, divisor) == wanted:
            return True
    return False


def _closing(inside: Sequence[tl.Part]) -> tuple[tl.Branch, Test, tuple[tl.Branch, ...]] | None:
    """The branch that closes a window, its test, and the branches around it: `if amp:`, with a window in each arm."""
    aside: list[tl.Branch] = []
    for part, arm in pairwise(inside):
        if not isinstance(part, tl.Branch):
            continue
        test = modulo(part.test) if part.test is not None else None
        if test is not None:
            first = isinstance(arm, tl.Arm) and arm.index == 0
            return (part, test, tuple(aside)) if first else None
        aside.append(part)
    return None


def _backward(
    inner: Located, around: Sequence[tl.Part], branch: tl.Branch, aside: tuple[tl.Branch, ...]
) -> ev.Backward | None:
    """The backward that each round of a window runs: one, or one of several of which just one is taken."""
    found = [(e, a) for e, a in inner if isinstance(e, ev.Backward) and not query.exclusive(a, around)]
    if not found or any(e.engine or branch in a for e, a in found):
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


def modulo(test: tree.Expression) -> Test | None:
    """The test of a window in a condition."""
    for node in test.walk():
        if not isinstance(node, tree.Operation):
            continue
        if node.op == "==" and len(node.operands) == 2 and _remainder(node.operands[0]):
            left = node.operands[0]
            assert isinstance(left, tree.Operation)
            return Test(left.operands[0], left.operands[-1], node.operands[1], test)
        if node.op == "not" and _remainder(node.operands[0]):
            left = node.operands[0]
            assert isinstance(left, tree.Operation)
            return Test(left.operands[0], left.operands[-1], None, test)
    return None


def _remainder(node: tree.Expression) -> bool:
    return isinstance(node, tree.Operation) and node.op == "%" and len(node.operands) == 2


def counted_from_zero(window: Window) -> bool:
    """Whether what the test counts with is 0 in the first round: an index of the loop, or a counter that lags."""
    name = window.test.counter.id if isinstance(window.test.counter, tree.Name) else ""
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
