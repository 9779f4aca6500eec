"""Which parameters of a model meet the tests of a comprehension, a filter or a loop, where the code shows the model.

The tests are evaluated for each name and number of dimensions (`predicates`).
"""

from __future__ import annotations

from collections.abc import Callable

from gradcheck_lint.laws.answer import MAYBE, NO, YES, Answer
from gradcheck_lint.source import tree
from gradcheck_lint.source.effort import spend
from gradcheck_lint.source.model_tree import Leaf, Member, Pick, both
from gradcheck_lint.source.natures import Module, Parameters, nature
from gradcheck_lint.source.run.machine import Machine
from gradcheck_lint.source.run.members import model_tree
from gradcheck_lint.source.run.predicates import UNKNOWN, Env, Parameter, Prefix, Python, Tester, answer, peek
from gradcheck_lint.source.values import FunctionValue, Items, Sifted, Table, Value, only


def picked(machine: Machine, source: Value, targets: tree.Expression, tests: list[tree.Expression]) -> Pick | None:
    """Those parameters that a loop goes over and that meet all of some tests; None if the model is not known."""

    def meets(tester: Tester, env: Env) -> Answer:
        found = YES
        for test in tests:
            found = both(found, answer(tester.value(test, env)))
        return found

    return _picked(machine, source, lambda leaf, name, grad: _bound(targets, name, Parameter(leaf, grad)), meets)


def filtered(machine: Machine, source: Value, function: Value | None) -> Pick | None:
    """Those for which a function gives something true: `filter(lambda p: …, model.parameters())`."""
    if not isinstance(function, FunctionValue) or not function.function.parameters:
        return None
    first = function.function.parameters[0].name

    def bound(leaf: Leaf, name: Python, grad: bool) -> Env:
        one = Parameter(leaf, grad)
        return {first: (name, one) if _named(source) else one}

    return _picked(machine, source, bound, lambda tester, env: answer(tester.called(function, env)))


def _picked(
    machine: Machine,
    source: Value,
    bind: Callable[[Leaf, Python, bool], Env | None],
    meets: Callable[[Tester, Env], Answer],
) -> Pick | None:
    base = everything(machine, source)
    if base is None:
        return None
    tester, members = Tester(machine, everything), []
    for member in base.members:
        spend(4)
        leaf = member.leaf
        found: list[Answer] = []
        for grad, before in ((True, member.trained), (False, member.frozen)):
            answers = set()
            for name in leaf.names:
                env = bind(leaf, Prefix(name) if leaf.open else name, grad)
                answers.add(MAYBE if env is None else meets(tester, env))
            found.append(both(before, answers.pop() if len(answers) == 1 else MAYBE))
        members.append(Member(leaf, found[0], found[1]))
    return Pick(base.tree, tuple(members), (*base.sought, *tester.sought.items()), base.shaped or tester.shaped)


def everything(machine: Machine, source: Value) -> Pick | None:
    """The parameters that an iterable gives, as a choice among those of a model; None if that is not known."""
    thing = only(source)
    given = nature(thing, Parameters)
    if thing is None or given is None or given.parts is not None or given.of is None:
        return None
    if given.picked is not None:
        return given.picked
    if given.filtered:
        return None
    if isinstance(given.of.what, Parameters):
        return everything(machine, given.of)
    if not isinstance(given.of.what, Module):
        return None
    known = model_tree(machine, given.of)
    if not known.leaves or (len(known.leaves) == 1 and known.leaves[0].open):
        return None
    return Pick(known, tuple(Member(leaf, YES, YES) for leaf in known.leaves))


def sift(machine: Machine, loop: tree.For, source: Value, before: dict[int, tuple[Items, int]]) -> None:
    """Note on lists which parameters a loop over those of a model has put into them.

    `before` are the lists that it appends to, by their ids, and how many items they had.
    """
    base = everything(machine, source)
    if base is None or not before:
        return
    run = _Loop(machine, loop, before)
    found: dict[int, list[Member]] = {key: [] for key in before}
    for member in base.members:
        spend(4)
        leaf, answers = member.leaf, {key: [NO, NO] for key in before}
        for index, (grad, there) in enumerate(((True, member.trained), (False, member.frozen))):
            met: dict[int, set[Answer]] = {key: set() for key in before}
            for name in leaf.names:
                env = _bound(loop.target, Prefix(name) if leaf.open else name, Parameter(leaf, grad))
                put = run.once(dict(env)) if env is not None else None
                for key in before:
                    met[key].add(MAYBE if put is None else put.get(key, NO))
            for key, several in met.items():
                answers[key][index] = both(there, several.pop() if len(several) == 1 else MAYBE)
        for key in before:
            found[key].append(Member(leaf, *answers[key]))
    if run.lost:
        return
    sought = (*base.sought, *run.tester.sought.items())
    for key, (items, start) in before.items():
        pick = Pick(base.tree, tuple(found[key]), sought, base.shaped or run.tester.shaped)
        items.sifted = (*items.sifted, Sifted(start, len(items.items), pick, loop))


def appended_to(machine: Machine, loop: tree.For) -> dict[int, tuple[Items, int]]:
    """The lists of the code that a loop appends to, by their ids, and how many items they have."""
    found: dict[int, tuple[Items, int]] = {}
    for node in tree.walk_block(loop.body):
        func = node.func if isinstance(node, tree.Call) else None
        if not isinstance(func, tree.Attribute) or func.attr not in ("append", "add"):
            continue
        for target in _targets(func.value):
            for value in _lists(machine, target) if not _bound_in(target, loop) else ():
                found[id(value)] = (value, len(value.items))
    return found


def _lists(machine: Machine, target: tree.Expression) -> list[Items]:
    """The lists that a name, an attribute or an item of a dictionary may be."""
    if isinstance(target, tree.Subscript):
        table = peek(machine, target.value)
        entries = list(table.entries.items()) if isinstance(table, Table) else []
        index = target.index.value if isinstance(target.index, tree.Constant) else ...
        return [v for key, v in entries if isinstance(v, Items) and (index is ... or key == index)]
    value = peek(machine, target)
    return [value] if isinstance(value, Items) else []


def _targets(node: tree.Expression) -> list[tree.Expression]:
    """The lists that an expression may be: `decay if p.ndim > 1 else no_decay`."""
    return [node.body, node.orelse] if isinstance(node, tree.Conditional) else [node]


def _bound_in(target: tree.Expression, loop: tree.For) -> bool:
    base = target.value if isinstance(target, tree.Subscript) else target
    name = tree.dotted(base).partition(".")[0]
    return any(isinstance(node, tree.Name) and node.id == name for node in loop.target.walk())


class _Loop:
    """The body of a loop that sorts parameters into lists, gone through for one parameter at a time."""

    def __init__(self, machine: Machine, loop: tree.For, lists: dict[int, tuple[Items, int]]) -> None:
        self.machine, self.loop, self.lists = machine, loop, lists
        self.tester = Tester(machine, everything)
        self.lost = False

    def once(self, env: dict[str, Python]) -> dict[int, Answer]:
        put: dict[int, Answer] = {}
        self.run(self.loop.body, env, put, YES)
        return put

    def run(self, body: tree.Block, env: dict[str, Python], put: dict[int, Answer], sure: Answer) -> bool:
        """Run statements; whether the round surely ends in them."""
        for statement in body:
            spend(1)
            if isinstance(statement, tree.If):
                held = answer(self.tester.value(statement.test, env))
                if held is not MAYBE:
                    if self.run(statement.body if held is YES else statement.orelse, env, put, sure):
                        return True
                    continue
                ended = [self.run(arm, dict(env), put, MAYBE) for arm in (statement.body, statement.orelse)]
                if any(ended):
                    sure = MAYBE
                if all(ended):
                    return True
            elif isinstance(statement, (tree.Jump, tree.Return, tree.Raise)):
                if not (isinstance(statement, tree.Jump) and statement.kind is tree.Exit.CONTINUE):
                    self.lost = self.lost or not isinstance(statement, tree.Raise)
                return True
            elif isinstance(statement, tree.Assign) and statement.value is not None:
                value = self.tester.value(statement.value, env)
                for target in statement.targets:
                    if isinstance(target, tree.Name):
                        env[target.id] = value
                    elif not (isinstance(target, tree.Attribute) and target.attr == "requires_grad"):
                        self.lost = True
            elif isinstance(statement, tree.Evaluate):
                self.evaluate(statement.value, env, put, sure)
            elif not isinstance(statement, tree.Assert):
                self.lost = True
        return False

    def evaluate(self, node: tree.Expression, env: Env, put: dict[int, Answer], sure: Answer) -> None:
        func = node.func if isinstance(node, tree.Call) else None
        if not isinstance(node, tree.Call) or not isinstance(func, tree.Attribute):
            return
        if func.attr not in ("append", "add"):
            self.lost = self.lost or any(
                isinstance(self.look(part), Items) for argument in node.args for part in argument.value.walk()
            )
            return
        target, held = func.value, YES
        if isinstance(target, tree.Conditional):
            held = answer(self.tester.value(target.test, env))
            if held is not MAYBE:
                target = target.body if held is YES else target.orelse
        several = [value for each in _targets(target) for value in self.lists_of(each, env)]
        for value in several:
            if id(value) not in self.lists:
                continue
            given = self.tester.value(node.args[0].value, env) if node.args else UNKNOWN
            if not isinstance(given, Parameter):
                self.lost = True  # a group of its own, or a name
            if sure is YES and held is not MAYBE and len(several) == 1:
                put[id(value)] = YES
            else:
                put.setdefault(id(value), MAYBE)

    def lists_of(self, target: tree.Expression, env: Env) -> list[Items]:
        """The lists that are appended to, by the key of a dictionary where that is known."""
        key = self.tester.value(target.index, env) if isinstance(target, tree.Subscript) else UNKNOWN
        if isinstance(target, tree.Subscript) and isinstance(key, (str, int)):
            table = peek(self.machine, target.value)
            found = table.entries.get(key) if isinstance(table, Table) else None
            return [found] if isinstance(found, Items) else []
        return _lists(self.machine, target)

    def look(self, node: tree.Node) -> Value | None:
        return peek(self.machine, node) if isinstance(node, (tree.Name, tree.Attribute)) else None


def _named(source: Value) -> bool:
    given = nature(only(source), Parameters)
    return given is not None and given.named


def _bound(target: tree.Expression, name: Python, parameter: Parameter) -> Env | None:
    """What a target is bound to by `named_parameters()`, or by `parameters()` if it is one name."""
    if isinstance(target, tree.Name):
        return {target.id: parameter}
    if isinstance(target, tree.Display) and len(target.items) == 2:
        first, second = target.items
        if isinstance(first, tree.Name) and isinstance(second, tree.Name):
            return {first.id: name, second.id: parameter}
    return None
