"""Loops that end by a flag: `while not done: …; done = True`.

Where nothing that counts comes between the assignment of the flag and the end of the round, the loop is left there as
by a `break`, so that a loop around one pass is no loop to the gradients.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source import tree
from gradcheck_lint.source.effort import spend
from gradcheck_lint.source.events import Assign, Evaluate, Iterate, Return, TorchCall
from gradcheck_lint.source.place import Place

_ASIDE = (Assign, Evaluate, Iterate, Return, TorchCall)
"""Kinds of events that change nothing of what is trained."""


def ending(node: tree.While) -> Iterator[int]:
    """The ids of the statements that set the flag of a loop for good, so that the round is its last."""
    names = [name for name in map(tree.dotted, _read(node.test)) if name]
    if names:
        yield from _ending(node.test, node.body, frozenset(), frozenset(names))


def _read(test: tree.Expression) -> Iterator[tree.Expression]:
    """The names that a test looks at."""
    if isinstance(test, tree.Operation):
        for operand in test.operands:
            yield from _read(operand)
    elif isinstance(test, (tree.Name, tree.Attribute)):
        yield test


def _ending(test: tree.Expression, block: tree.Block, later: frozenset[str], names: frozenset[str]) -> Iterator[int]:
    """As `ending`, for a block after which some of the names are assigned again."""
    for statement in reversed(block):
        spend(1)
        if isinstance(statement, tree.Assign):
            given = statement.value.value if isinstance(statement.value, tree.Constant) else ...
            targets = [tree.dotted(target) for target in statement.targets]
            if given is not ... and any(t not in later and _false(test, t, given) for t in targets):
                yield id(statement)
        elif isinstance(statement, tree.If):
            yield from _ending(test, statement.body, later, names)
            yield from _ending(test, statement.orelse, later, names)
        elif isinstance(statement, tree.With):
            yield from _ending(test, statement.body, later, names)
        elif isinstance(statement, tree.Match):
            for arm in statement.arms:
                yield from _ending(test, arm, later, names)
        elif isinstance(statement, tree.Try):
            last = later | _assigned(statement.final, names)
            yield from _ending(test, statement.final, later, names)
            yield from _ending(test, statement.body, last | _assigned(statement.orelse, names), names)
            for arm in (*statement.handlers, statement.orelse):
                yield from _ending(test, arm, last, names)
        if not names <= later:
            later |= _assigned([statement], names)


def _assigned(block: Iterable[tree.Node], names: frozenset[str]) -> frozenset[str]:
    """Which of the names some statements assign."""
    found: set[str] = set()
    for statement in block:
        for node in statement.walk():
            if isinstance(node, tree.Assign):
                found.update(tree.dotted(part) for target in node.targets for part in target.walk())
            elif isinstance(node, (tree.Augment, tree.Named, tree.For)):
                found.update(tree.dotted(part) for part in node.target.walk())
    return names & found


def _false(test: tree.Expression, name: str, value: object) -> bool:
    """Whether a test cannot hold where a name stands for a value."""
    if isinstance(test, (tree.Name, tree.Attribute)):
        return tree.dotted(test) == name and not value
    if not isinstance(test, tree.Operation):
        return False
    if test.op == "and":
        return any(_false(operand, name, value) for operand in test.operands)
    if test.op == "not":
        return tree.dotted(test.operands[0]) == name and bool(value)
    other = test.operands[-1]
    if len(test.operands) != 2 or tree.dotted(test.operands[0]) != name or not isinstance(other, tree.Constant):
        return False
    if test.op in ("==", "is"):
        return other.value != value
    return test.op in ("!=", "is not") and other.value == value


def leave(body: tl.Sequence, ended: dict[int, tl.Sequence], place: Place) -> None:
    """End the rounds of a loop where its flag was set, in the sequences with these ids."""
    todo = [(body, True)] if ended else []
    while todo:
        sequence, last = todo.pop()
        if last and id(sequence) in ended:
            sequence.steps.append(tl.Jump(tree.Exit.BREAK, place))
        for step in reversed(sequence.steps):
            spend(1)
            if isinstance(step, tl.Sequence):
                todo.append((step, last))
            elif isinstance(step, tl.Branch):
                todo += [(arm, last) for arm in step.arms]
            elif isinstance(step, tl.Guarded):
                todo += [(step.body, last and _idle(step.final)), (step.final, last)]
            last = last and _idle(step)


def _idle(step: tl.Part) -> bool:
    """Whether nothing happens in a step that counts."""
    return isinstance(step, tl.Jump) or all(isinstance(event, _ASIDE) for event in tl.inside(step))
