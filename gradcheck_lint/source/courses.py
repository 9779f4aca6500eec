"""By which exits the parts of a timeline may be left, whatever happens in them."""

from __future__ import annotations

from gradcheck_lint.source import tree
from gradcheck_lint.source.events import Event
from gradcheck_lint.source.timeline import Branch, Call, Guarded, Loop, Part, Sequence, Timeline, Turn

END, BREAK, CONTINUE, RETURN = tree.Exit.END, tree.Exit.BREAK, tree.Exit.CONTINUE, tree.Exit.RETURN

Course = frozenset[tuple[tree.Exit, bool]]
"""How a part may be left: by which exit, and whether a new round of a loop has begun on the way."""

STRAIGHT: Course = frozenset({(END, False)})


class Courses:
    """The ways through the parts of one timeline, each found once."""

    def __init__(self) -> None:
        self._known: dict[int, Course] = {}  # by the id of a part, which the timeline keeps

    @staticmethod
    def of(timeline: Timeline) -> Courses:
        """Those of a timeline: one for all passes over it."""
        courses: Courses = timeline.found.setdefault(Courses, Courses())
        return courses

    def through(self, part: Part) -> Course:
        """The ways through a part."""
        found = self._known.get(id(part))
        if found is None:
            found = self._known[id(part)] = self._through(part)
        return found

    def _through(self, part: Part) -> Course:
        if isinstance(part, Event):
            return STRAIGHT
        if isinstance(part, Sequence):
            return self._one_by_one(part)
        if isinstance(part, Branch):
            return frozenset().union(*map(self.through, counting(part)))
        if isinstance(part, Loop):
            return self._round(part)
        if isinstance(part, Guarded):
            ended = {late for exit, late in self.through(part.final) if exit == END}
            return frozenset((e, a or b) for e, a in self.through(part.body) for b in ended)
        if isinstance(part, Call):
            return frozenset((END, late) for e, late in self.through(part.body) if e in (END, RETURN))
        return frozenset() if part.kind is tree.Exit.RAISE else frozenset({(part.kind, False)})

    def _one_by_one(self, sequence: Sequence) -> Course:
        left: set[tuple[tree.Exit, bool]] = set()
        ends = {False}
        for part in sequence.steps:
            if isinstance(part, Event):
                continue
            course = self.through(part)
            if course is STRAIGHT or course == STRAIGHT:
                continue
            left.update((e, a or b) for a in ends for e, b in course if e != END)
            ends = {a or b for a in ends for e, b in course if e == END}
            if not ends:
                break
        if not left and ends == {False}:
            return STRAIGHT
        return frozenset(left | {(END, late) for late in ends})

    def _round(self, loop: Loop) -> Course:
        body = self.through(loop.body)
        if loop.once:
            ends = (RETURN, BREAK) if isinstance(loop, Turn) else (RETURN,)
            return frozenset((RETURN if e in ends else END, late) for e, late in body)
        again = any(e in (END, CONTINUE) for e, _ in body)
        ways = {(e, late) for e, late in body if e in (BREAK, RETURN)}
        if again:
            ways |= {(e, True) for e, _ in ways}
        left = {(RETURN if e == RETURN else END, late) for e, late in ways}
        if again and not loop.endless:
            left.add((END, True))
        if isinstance(loop.node, tree.While) and not loop.endless:
            left.add((END, False))
        return frozenset(left)


def counting(branch: Branch) -> list[Sequence]:
    """The arms that count: where a test asks if there is a gradient, the one for a gradient that is there."""
    test = branch.test
    if isinstance(test, tree.Operation) and test.op == "and":
        test = test.operands[0]
    if isinstance(test, tree.Operation) and test.op in ("is", "is not", "==", "!="):
        if tree.last_name(test.operands[0]) == "grad" and _none(test.operands[1]):
            return [branch.arms[0 if test.op in ("is not", "!=") else 1]]
    elif isinstance(test, tree.Attribute) and test.attr == "grad":
        return [branch.arms[0]]
    return branch.arms


def _none(node: tree.Expression) -> bool:
    return isinstance(node, tree.Constant) and node.value is None
