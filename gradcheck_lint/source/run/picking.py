"""Which parameters of a model meet the tests of a comprehension, a filter or a loop, where the code shows the model.

The tests are evaluated for each name and number of dimensions, by what Python does with strings and numbers. They cause
nothing, and what they do not know stays open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from gradcheck_lint.laws.answer import MAYBE, NO, YES, Answer
from gradcheck_lint.source import tree
from gradcheck_lint.source.effort import spend
from gradcheck_lint.source.model_tree import Leaf, Member, Pick, both
from gradcheck_lint.source.natures import Identity, Module, Parameters, Tensor, nature
from gradcheck_lint.source.run.machine import Machine
from gradcheck_lint.source.run.members import model_tree
from gradcheck_lint.source.values import Constant, FunctionValue, Items, Sifted, Value, only


class _Unknown:
    """What is not known of a value."""


UNKNOWN = _Unknown()


class Prefix(NamedTuple):
    """A string of which only the beginning is known."""

    text: str


class Parameter(NamedTuple):
    """One parameter, where it is supposed that it requires grad, or that it does not."""

    leaf: Leaf
    grad: bool


class _Shape(NamedTuple):
    """The shape of a parameter."""

    ndim: int | None


class _Id(NamedTuple):
    """`id(parameter)`."""

    leaf: Leaf


class _Ids(NamedTuple):
    """A list or a set of the ids of parameters."""

    of: tuple[Value, ...]


Python = object
"""A value of Python as the tests see it: a string, a number, one of the classes above, or UNKNOWN."""

Env = Mapping[str, Python]


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
    tester, members = Tester(machine), []
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
            if isinstance(target, (tree.Name, tree.Attribute)) and not _bound_in(target, loop):
                value = _peek(machine, target)
                if isinstance(value, Items):
                    found[id(value)] = (value, len(value.items))
    return found


def _targets(node: tree.Expression) -> list[tree.Expression]:
    """The lists that an expression may be: `decay if p.ndim > 1 else no_decay`."""
    return [node.body, node.orelse] if isinstance(node, tree.Conditional) else [node]


def _bound_in(target: tree.Expression, loop: tree.For) -> bool:
    name = tree.dotted(target).partition(".")[0]
    return any(isinstance(node, tree.Name) and node.id == name for node in loop.target.walk())


def _peek(machine: Machine, node: tree.Expression) -> Value | None:
    """What a name, or an attribute of one, stands for, without that anything happens."""
    if isinstance(node, tree.Name):
        scope: int | None = machine.frame.serial
        while scope is not None:
            value = machine.store.get((scope, node.id))
            if value is not None:
                return value
            scope = machine.parents.get(scope)
        return None
    if isinstance(node, tree.Attribute):
        base = only(_peek(machine, node.value))
        return machine.store.get((base.serial, node.attr)) if base is not None else None
    return None


class _Loop:
    """The body of a loop that sorts parameters into lists, gone through for one parameter at a time."""

    def __init__(self, machine: Machine, loop: tree.For, lists: dict[int, tuple[Items, int]]) -> None:
        self.machine, self.loop, self.lists = machine, loop, lists
        self.tester = Tester(machine)
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
        for each in _targets(target):
            value = self.look(each)
            if value is None or id(value) not in self.lists:
                continue
            given = self.tester.value(node.args[0].value, env) if node.args else UNKNOWN
            if not isinstance(given, Parameter):
                self.lost = True  # a group of its own, or a name
            if sure is YES and held is not MAYBE:
                put[id(value)] = YES
            else:
                put.setdefault(id(value), MAYBE)

    def look(self, node: tree.Node) -> Value | None:
        return _peek(self.machine, node) if isinstance(node, (tree.Name, tree.Attribute)) else None


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


def answer(value: Python) -> Answer:
    """Whether a value is true."""
    if isinstance(value, (_Unknown, Prefix, _Shape, _Ids)):
        return MAYBE
    return YES if value else NO


class Tester:
    """Evaluates tests. `sought` is what they look for in names, and whether some name has it."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.sought: dict[str, bool] = {}
        self.shaped = False
        self.outer: dict[int, Python] = {}  # node → what it is, where no parameter has a say in that
        self.depth = 0

    def value(self, node: tree.Expression, env: Env) -> Python:
        spend(1)
        if isinstance(node, tree.Constant):
            return UNKNOWN if node.value is ... else node.value
        if isinstance(node, tree.Name):
            return env[node.id] if node.id in env else self.outside(node)
        if isinstance(node, tree.Operation):
            return self.operation(node, env)
        if isinstance(node, tree.Attribute):
            return self.attribute(node, env)
        if isinstance(node, tree.Call):
            return self.call(node, env)
        if isinstance(node, tree.Subscript):
            return _item(self.value(node.value, env), self.value(node.index, env))
        if isinstance(node, tree.Conditional):
            held = answer(self.value(node.test, env))
            return UNKNOWN if held is MAYBE else self.value(node.body if held is YES else node.orelse, env)
        if isinstance(node, tree.Display):
            return tuple(self.value(item, env) for item in node.items)
        return UNKNOWN

    def outside(self, node: tree.Expression) -> Python:
        """What a name that no parameter is bound to stands for."""
        if id(node) not in self.outer:
            value = _peek(self.machine, node)
            self.outer[id(node)] = plain(value) if value is not None else UNKNOWN
        return self.outer[id(node)]

    def attribute(self, node: tree.Attribute, env: Env) -> Python:
        dotted = tree.dotted(node)
        if dotted and dotted.partition(".")[0] not in env:
            return self.outside(node)
        base = self.value(node.value, env)
        if not isinstance(base, Parameter):
            return UNKNOWN
        if node.attr == "requires_grad":
            return base.grad
        if node.attr == "ndim":
            return self.ndim(base.leaf)
        if node.attr == "shape":
            return _Shape(base.leaf.ndim)
        return base if node.attr == "data" else UNKNOWN

    def ndim(self, leaf: Leaf) -> Python:
        self.shaped = True
        return UNKNOWN if leaf.ndim is None else leaf.ndim

    def operation(self, node: tree.Operation, env: Env) -> Python:
        found = [self.value(operand, env) for operand in node.operands]
        if node.op == "not":
            held = answer(found[0])
            return UNKNOWN if held is MAYBE else held is NO
        if node.op in ("and", "or"):
            return _logic(node.op, found)
        if node.op in ("in", "not in"):
            held = self.within(found[0], found[1])
            return UNKNOWN if held is MAYBE else (held is YES) == (node.op == "in")
        if len(found) != 2 or node.op not in _COMPARES:
            return UNKNOWN
        one, other = found
        if node.op in ("==", "!=") and isinstance(one, str) and isinstance(other, str):
            self.seek(other, one == other)
        if any(isinstance(v, (_Unknown, Prefix, _Shape, _Id, _Ids, Parameter)) for v in found):
            return UNKNOWN
        try:
            return _COMPARES[node.op](one, other)
        except TypeError:
            return UNKNOWN

    def within(self, part: Python, whole: Python) -> Answer:
        """`part in whole`."""
        if isinstance(part, str) and isinstance(whole, (str, Prefix)):
            text = whole if isinstance(whole, str) else whole.text
            if isinstance(whole, str) or part in text:
                self.seek(part, part in text)
                return YES if part in text else NO
            self.seek(part, True)  # it may be in what is not known
            return MAYBE
        if isinstance(part, _Id) and isinstance(whole, _Ids):
            return self.among(part.leaf, whole)
        if isinstance(part, str) and isinstance(whole, tuple):
            if any(not isinstance(item, str) for item in whole):
                return MAYBE
            return YES if part in whole else NO
        return MAYBE

    def among(self, leaf: Leaf, ids: _Ids) -> Answer:
        """Whether a parameter is one of those whose ids were listed."""
        found = NO
        for value in ids.of:
            pick = everything(self.machine, value)
            if pick is None:
                return MAYBE
            here = next((m.trained for m in pick.members if m.leaf.key == leaf.key), NO)
            if here is NO and any(m.leaf.open for m in pick.members):
                here = MAYBE
            found = YES if YES in (found, here) else MAYBE if MAYBE in (found, here) else NO
        return found

    def seek(self, text: str, met: bool) -> None:
        self.sought[text] = self.sought.get(text, False) or met

    def call(self, node: tree.Call, env: Env) -> Python:
        func = node.func
        if isinstance(func, tree.Name) and func.id not in env:
            return self.function(func, node, env)
        if not isinstance(func, tree.Attribute) or any(a.star or a.keyword for a in node.args):
            return UNKNOWN
        base = self.value(func.value, env)
        args = [self.value(a.value, env) for a in node.args]
        if isinstance(base, Parameter):
            if func.attr in ("dim", "ndimension") and not args:
                return self.ndim(base.leaf)
            return _Shape(base.leaf.ndim) if func.attr == "size" and not args else UNKNOWN
        if isinstance(base, (str, Prefix)) and func.attr in ("startswith", "endswith") and len(args) == 1:
            return self.ends(base, func.attr == "startswith", args[0])
        if isinstance(base, str) and func.attr in _OF_STRINGS and all(isinstance(a, (str, int)) for a in args):
            try:
                found = getattr(base, func.attr)(*args)
            except (TypeError, ValueError):
                return UNKNOWN
            return tuple(found) if isinstance(found, list) else found
        return UNKNOWN

    def ends(self, base: str | Prefix, start: bool, sought: Python) -> Python:
        """`name.startswith(…)` and `name.endswith(…)`."""
        options = sought if isinstance(sought, tuple) else (sought,)
        found = NO
        for text in options:
            here = MAYBE
            if isinstance(text, str) and isinstance(base, str):
                here = YES if (base.startswith(text) if start else base.endswith(text)) else NO
            elif isinstance(text, str) and isinstance(base, Prefix) and start:
                here = YES if base.text.startswith(text) else MAYBE if text.startswith(base.text) else NO
            if isinstance(text, str):
                self.seek(text, here is not NO)
            found = YES if YES in (found, here) else MAYBE if MAYBE in (found, here) else NO
        return UNKNOWN if found is MAYBE else found is YES

    def function(self, func: tree.Name, node: tree.Call, env: Env) -> Python:
        """A call of a function of Python, or of one that the code defines."""
        value = _peek(self.machine, func)
        if isinstance(value, FunctionValue):
            names = [p.name for p in value.function.parameters]
            args = [self.value(a.value, env) for a in node.args]
            if len(names) != len(args) or any(a.star or a.keyword for a in node.args):
                return UNKNOWN
            return self.called(value, dict(zip(names, args, strict=True)))
        if value is not None or len(node.args) != 1 or node.args[0].star:
            return UNKNOWN
        given = node.args[0].value
        if func.id in ("any", "all"):
            several = self.each(given, env)
            return UNKNOWN if several is None else _logic("or" if func.id == "any" else "and", several)
        found = self.value(given, env)
        if func.id == "id" and isinstance(found, Parameter):
            return _Id(found.leaf)
        if func.id == "len":
            if isinstance(found, _Shape):
                self.shaped = True
                return UNKNOWN if found.ndim is None else found.ndim
            return len(found) if isinstance(found, (str, tuple)) else UNKNOWN
        if func.id == "bool" and answer(found) is not MAYBE:
            return answer(found) is YES
        return UNKNOWN

    def each(self, node: tree.Expression, env: Env) -> list[Python] | None:
        """The items of a comprehension over something that is known."""
        if not isinstance(node, tree.Comprehension):
            found = self.value(node, env)
            return list(found) if isinstance(found, tuple) else None
        if len(node.clauses) != 1 or node.value is not None:
            return None
        target, iterable, tests = node.clauses[0]
        items = self.value(iterable, env)
        if not isinstance(items, tuple) or not isinstance(target, tree.Name):
            return None
        results: list[Python] = []
        for item in items:
            inner = {**env, target.id: item}
            held = YES
            for test in tests:
                held = both(held, answer(self.value(test, inner)))
            if held is not NO:
                results.append(self.value(node.element, inner) if held is YES else UNKNOWN)
        return results

    def called(self, function: FunctionValue, env: Env) -> Python:
        """What a function of one or two lines gives."""
        self.depth += 1
        found = self.body(function.function.body, dict(env)) if self.depth < 5 else UNKNOWN
        self.depth -= 1
        return found

    def body(self, body: Iterable[tree.Statement], env: dict[str, Python]) -> Python:
        for statement in body:
            if isinstance(statement, tree.Return):
                return self.value(statement.value, env) if statement.value is not None else None
            if isinstance(statement, tree.If):
                held = answer(self.value(statement.test, env))
                if held is MAYBE or not all(isinstance(s, tree.Return) for s in (*statement.body, *statement.orelse)):
                    return UNKNOWN
                taken = statement.body if held is YES else statement.orelse
                if taken:
                    return self.body(taken, env)
            elif isinstance(statement, tree.Assign) and statement.value is not None:
                for target in statement.targets:
                    if not isinstance(target, tree.Name):
                        return UNKNOWN
                    env[target.id] = self.value(statement.value, env)
            elif not isinstance(statement, tree.Evaluate):
                return UNKNOWN
        return None


def plain(value: Value) -> Python:
    """A value of the analysis as one of Python: constants, lists of them, and ids of parameters."""
    if isinstance(value, Constant):
        return UNKNOWN if value.value is ... else value.value
    if isinstance(value, Items):
        sources = [_listed_ids(item) for item in value.items]
        if value.items and not value.escaped and all(s is not None for s in sources):
            return _Ids(tuple(s for s in sources if s is not None))
        if value.complete and all(isinstance(i, Constant) for i in value.items):
            return tuple(plain(item) for item in value.items)
    found = _listed_ids(value)
    return _Ids((found,)) if found is not None else UNKNOWN


def _listed_ids(value: Value) -> Value | None:
    """The parameters whose ids a value stands for: of `id(p)` for each of them, or of what `map` gives."""
    thing = only(value)
    while thing is not None and thing.parent is not None and thing.via is None:
        thing = thing.parent[0]
    via = thing.via if thing is not None else None
    if not isinstance(via, Identity):
        return None
    tensor = nature(only(via.of), Tensor)
    return tensor.element_of if tensor is not None else via.of


def _item(base: Python, index: Python) -> Python:
    if isinstance(base, (str, tuple)) and isinstance(index, int) and -len(base) <= index < len(base):
        return base[index]
    if isinstance(base, tuple) and len(base) == 2 and isinstance(index, int):
        return base[index]
    return UNKNOWN


def _logic(op: str, values: Iterable[Python]) -> Python:
    """Whether some, or all, of several values are true."""
    answers = [answer(value) for value in values]
    if op == "and":
        return False if NO in answers else UNKNOWN if MAYBE in answers else True
    return True if YES in answers else UNKNOWN if MAYBE in answers else False


_COMPARES: dict[str, Callable[[Python, Python], bool]] = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "is": lambda a, b: a is b or a == b,
    "is not": lambda a, b: a is not b and a != b,
    "<": lambda a, b: a < b,  # type: ignore[operator]
    "<=": lambda a, b: a <= b,  # type: ignore[operator]
    ">": lambda a, b: a > b,  # type: ignore[operator]
    ">=": lambda a, b: a >= b,  # type: ignore[operator]
}

_OF_STRINGS = frozenset(
    "split rsplit partition rpartition lower upper strip lstrip rstrip replace removeprefix removesuffix count find"
    " isdigit isalpha".split()
)
"""Methods of strings that give strings, numbers and lists of them, and are short whatever they are given."""
