"""The test that closes a window of accumulation: by a remainder, or by a count that is set back when it is reached."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source import tree
from gradcheck_lint.source.events import Event


class Test(NamedTuple):
    """`counter % size == rest`, or a count of rounds against `size`; `whole` is the condition that it is (a part of).

    A count is `kept` by hand: raised in each round, and set back where it is reached, if it is `reset` at all.
    """

    counter: tree.Expression
    size: tree.Expression
    rest: tree.Expression | None  # None for `not counter % size`, and for a count
    whole: tree.Expression
    kept: bool = False
    reset: bool = True


class Gate(NamedTuple):
    """A branch in each round of a loop, and which of its arms a window closes in.

    Where the other arm goes on to the next round, the window closes `behind` it: those are the events, by their ids.
    """

    branch: tl.Branch
    test: Test
    arm: int
    behind: frozenset[int] | None = None

    def shuts(self, event: tl.Part, around: Sequence[tl.Part]) -> bool:
        """Whether an event stands where the window closes."""
        if self.behind is not None:
            return id(event) in self.behind
        return self._arm(around) == self.arm

    def parts(self, event: tl.Part, around: Sequence[tl.Part]) -> bool:
        """Whether it depends on the test whether an event happens."""
        return self.shuts(event, around) or self._arm(around) is not None

    def inside(self, around: Sequence[tl.Part]) -> Sequence[tl.Part] | None:
        """The parts around what stands in the arm where the window stays open; None for what does not."""
        arm = self._arm(around)
        if arm is None or (arm == self.arm and self.behind is None):
            return None
        return around[next(n for n, part in enumerate(around) if part is self.branch) + 2 :]

    def _arm(self, around: Sequence[tl.Part]) -> int | None:
        for index, part in enumerate(around):
            if part is self.branch:
                arm = around[index + 1] if index + 1 < len(around) else None
                return arm.index if isinstance(arm, tl.Arm) else None
        return None


def gate(timeline: tl.Timeline, step: Event, loop: tl.Loop) -> tuple[Gate, tuple[tl.Branch, ...]] | None:
    """The gate that a step in a loop stands behind, and the branches around it: `if amp:`, a window in each arm."""
    path = timeline.path(step)
    start = next(n for n, (part, _) in enumerate(path) if part is loop)
    aside: list[tl.Branch] = []
    body: tree.Block | None = None
    for part, _ in path[:start]:
        if isinstance(part, tl.Call):
            body = part.function.body
    if body is None:
        body = timeline.entry.body if timeline.entry is not None else timeline.home.body
    for part, index in path[start + 1 :]:
        if isinstance(part, tl.Call):
            body = part.function.body
        elif isinstance(part, tl.Branch):
            found = _read(part.test, loop, body)
            if found is not None:
                test, holds = found
                closes = 0 if holds else 1
                return (Gate(part, test, closes), tuple(aside)) if index == closes else None
            aside.append(part)
        elif isinstance(part, tl.Sequence):
            for number, before in enumerate(part.steps[:index]):
                found = _read(before.test, loop, body) if isinstance(before, tl.Branch) and _leaves(before) else None
                if found is not None and not found[1] and isinstance(before, tl.Branch):
                    rest = (event for later in part.steps[number + 1 :] for event in tl.inside(later))
                    return Gate(before, found[0], 1, frozenset(map(id, rest))), tuple(aside)
    return None


def _leaves(branch: tl.Branch) -> bool:
    """Whether the first arm goes on to the next round, or back to what called, and nothing stands in the other."""
    first = branch.arms[0].steps
    last = first[-1] if first else None
    return (
        isinstance(last, tl.Jump) and last.kind in (tree.Exit.CONTINUE, tree.Exit.RETURN) and not branch.arms[1].steps
    )


def _read(test: tree.Expression | None, loop: tl.Loop, body: tree.Block) -> tuple[Test, bool] | None:
    """The test of a window in a condition, and whether the window closes where the condition holds.

    A name for it is looked up: `last = (i + 1) % k == 0`.
    """
    if test is None:
        return None
    found = modulo(test)
    if found is not None:
        return found, True
    open_ = _open(test)
    if open_ is not None:
        return open_, False
    if isinstance(test, tree.Name) or (isinstance(test, tree.Operation) and test.op == "not"):
        inner = test if isinstance(test, tree.Name) else test.operands[0]
        value = given(inner, body)
        named = modulo(value) if value is not None else None
        return (named, inner is test) if named is not None else None
    if isinstance(test, tree.Operation) and test.op in ("and", "or"):
        parts = [one for part in test.operands if (one := _read(part, loop, body)) is not None]
        return (parts[0][0]._replace(whole=test), parts[0][1]) if len(parts) == 1 else None
    return _counted(test, loop, body)


def modulo(test: tree.Expression) -> Test | None:
    """The test of a window in a condition that is written with a remainder."""
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


def _open(test: tree.Expression) -> Test | None:
    """`counter % size` and `counter % size != rest`: what holds while the window stays open."""
    if not isinstance(test, tree.Operation):
        return None
    if _remainder(test):
        return Test(test.operands[0], test.operands[1], None, test)
    left = test.operands[0]
    if test.op in ("!=", ">") and len(test.operands) == 2 and isinstance(left, tree.Operation) and _remainder(left):
        rest = test.operands[1]
        if test.op == "!=" or (isinstance(rest, tree.Constant) and rest.value == 0):
            return Test(left.operands[0], left.operands[1], rest, test)
    return None


def given(name: tree.Expression, body: tree.Block) -> tree.Expression | None:
    """What the one assignment in a block gives to a name."""
    if not isinstance(name, tree.Name):
        return None
    found = [
        node.value
        for node in tree.walk_block(body)
        if isinstance(node, tree.Assign) and any(tree.dotted(target) == name.id for target in node.targets)
    ]
    return found[0] if len(found) == 1 else None


def _counted(test: tree.Expression, loop: tl.Loop, body: tree.Block) -> tuple[Test, bool] | None:
    """A comparison with a count that the code keeps by hand."""
    if not isinstance(test, tree.Operation) or test.op not in _REACHED | _SHORT or len(test.operands) != 2:
        return None
    left, right = test.operands
    kept = Kept.of(tree.dotted(left), loop, body) if tree.dotted(left) else None
    if kept is None:
        return None
    holds = test.op in _REACHED
    if kept.size is not None:
        if _zero(right) and test.op in ("==", "!="):
            return Test(left, kept.size, right if kept.whole else None, test, not kept.whole), holds
    elif not isinstance(right, tree.Constant) or (isinstance(right.value, int) and right.value > 1):
        return Test(left, right, None, test, True, kept.reset), holds
    return None


_REACHED = frozenset({"==", ">="})
_SHORT = frozenset({"<", "!="})


class Kept(NamedTuple):
    """A count that a loop raises by one in each round, and sets back to 0 if it is `reset`.

    It is counted down from `size`, or the `whole` of it is `count = (count + 1) % size`.
    """

    reset: bool
    size: tree.Expression | None = None
    whole: bool = False

    @staticmethod
    def of(name: str, loop: tl.Loop, body: tree.Block) -> Kept | None:
        """How a count is kept, in the loop if that stands in the same block of code."""
        here = list(_within(loop, body))
        raised = [n for n in here if isinstance(n, tree.Augment) and tree.dotted(n.target) == name]
        values = [
            n.value for n in here if isinstance(n, tree.Assign) and any(tree.dotted(t) == name for t in n.targets)
        ]
        if not raised and len(values) == 1:
            return _turned(name, values[0])
        if len(raised) != 1 or not _one(raised[0].value) or raised[0].op not in ("+", "-"):
            return None
        if raised[0].op == "-":
            start = values[0] if len(values) == 1 else None
            return Kept(True, start) if start is not None and not _zero(start) else None
        if not all(value is not None and _zero(value) for value in values):
            return None
        return Kept(bool(values))


def _turned(name: str, value: tree.Expression | None) -> Kept | None:
    """`count = (count + 1) % size`."""
    if not isinstance(value, tree.Operation) or not _remainder(value):
        return None
    left = value.operands[0]
    again = isinstance(left, tree.Operation) and left.op == "+" and any(tree.dotted(o) == name for o in left.operands)
    return Kept(True, value.operands[1], True) if again else None


def _within(loop: tl.Loop, body: tree.Block) -> Iterator[tree.Node]:
    """The nodes of a loop, or those of a function that it calls."""
    nodes = list(tree.walk_block(body))
    yield from loop.node.walk() if any(node is loop.node for node in nodes) else nodes


def _zero(node: tree.Expression) -> bool:
    return isinstance(node, tree.Constant) and node.value == 0


def _one(node: tree.Expression) -> bool:
    return isinstance(node, tree.Constant) and node.value == 1
