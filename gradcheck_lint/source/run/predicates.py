"""Evaluates tests over the names and shapes of parameters, by what Python does with strings and numbers.

They cause nothing, and what they do not know stays open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from gradcheck_lint.laws.answer import MAYBE, NO, YES, Answer
from gradcheck_lint.source import tree
from gradcheck_lint.source.effort import spend
from gradcheck_lint.source.model_tree import Leaf, Pick, both
from gradcheck_lint.source.natures import Identity, Tensor, nature
from gradcheck_lint.source.run.machine import Machine
from gradcheck_lint.source.values import Constant, FunctionValue, Items, Value, only


class Unknown:
    """What is not known of a value."""


UNKNOWN = Unknown()


class Prefix(NamedTuple):
    """A string of which only the beginning is known."""

    text: str


class Parameter(NamedTuple):
    """One parameter, where it is supposed that it requires grad, or that it does not."""

    leaf: Leaf
    grad: bool


class Shape(NamedTuple):
    """The shape of a parameter."""

    ndim: int | None


class Id(NamedTuple):
    """`id(parameter)`."""

    leaf: Leaf


class Ids(NamedTuple):
    """A list or a set of the ids of parameters."""

    of: tuple[Value, ...]


Python = object
"""A value of Python as the tests see it: a string, a number, one of the classes above, or UNKNOWN."""

Env = Mapping[str, Python]


def peek(machine: Machine, node: tree.Expression) -> Value | None:
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
        base = only(peek(machine, node.value))
        return machine.store.get((base.serial, node.attr)) if base is not None else None
    return None


def answer(value: Python) -> Answer:
    """Whether a value is true."""
    if isinstance(value, (Unknown, Prefix, Shape, Ids)):
        return MAYBE
    return YES if value else NO


class Tester:
    """Evaluates tests. `sought` is what they look for in names, and whether some name has it."""

    def __init__(self, machine: Machine, everything: Callable[[Machine, Value], Pick | None]) -> None:
        """`everything` gives the parameters in a collection, for tests that ask whether one is in another."""
        self.machine, self.everything = machine, everything
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
            value = peek(self.machine, node)
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
            return Shape(base.leaf.ndim)
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
        if any(isinstance(v, (Unknown, Prefix, Shape, Id, Ids, Parameter)) for v in found):
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
        if isinstance(part, Id) and isinstance(whole, Ids):
            return self.among(part.leaf, whole)
        if isinstance(part, str) and isinstance(whole, tuple):
            if any(not isinstance(item, str) for item in whole):
                return MAYBE
            return YES if part in whole else NO
        return MAYBE

    def among(self, leaf: Leaf, ids: Ids) -> Answer:
        """Whether a parameter is one of those whose ids were listed."""
        found = NO
        for value in ids.of:
            pick = self.everything(self.machine, value)
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
            return Shape(base.leaf.ndim) if func.attr == "size" and not args else UNKNOWN
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
        value = peek(self.machine, func)
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
            return Id(found.leaf)
        if func.id == "len":
            if isinstance(found, Shape):
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
            return Ids(tuple(s for s in sources if s is not None))
        if value.complete and all(isinstance(i, Constant) for i in value.items):
            return tuple(plain(item) for item in value.items)
    found = _listed_ids(value)
    return Ids((found,)) if found is not None else UNKNOWN


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
