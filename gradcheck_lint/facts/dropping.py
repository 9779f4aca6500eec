"""Dropout in the methods of a module that does not ask for the mode: functions that are not told, and layers made anew.

The methods are read as trees, from `forward` on through the methods of the class that it calls. What stands under a
test that has to do with the mode is left out, and so is all whose rate does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from gradcheck_lint.facts.caring import resolved
from gradcheck_lint.facts.classes import ClassFacts, is_module
from gradcheck_lint.source import tree
from gradcheck_lint.source.effort import spend
from gradcheck_lint.source.place import Place
from gradcheck_lint.source.run import shape
from gradcheck_lint.source.values import ClassValue, External, FunctionValue

_ON = frozenset({"dropout", "dropout1d", "dropout2d", "dropout3d"})
"""Functions of torch that drop unless they are told not to."""

_OFF = frozenset({"alpha_dropout", "feature_alpha_dropout"})
"""Functions of torch that drop only if they are told to."""

_ATTENTION = "scaled_dot_product_attention"

LAYERS = {
    "Dropout": "dropout", "Dropout1d": "dropout1d", "Dropout2d": "dropout2d", "Dropout3d": "dropout3d",
    "AlphaDropout": "alpha_dropout", "FeatureAlphaDropout": "feature_alpha_dropout",
}  # fmt: skip
"""The layers of torch that drop, and the functions for them."""


class Drop(NamedTuple):
    """A call that drops whatever the mode is (or, if it is `off`, never), in a method whose object is called `owner`.

    `rate` is what stands for the rate in it; it is `sure` unless the rate, or whether it comes to the call, may depend
    on what is not seen. `layer` tells that a layer is made and called, and `made` where, if that is another place.
    """

    place: Place
    call: tree.Call
    function: str
    rate: tree.Expression | None
    owner: str
    sure: bool
    off: bool = False
    layer: bool = False
    made: Place | None = None


def drops(facts: ClassFacts, speaks: re.Pattern[str]) -> Iterator[Drop]:
    """The calls in a module's methods that do not ask for its mode; methods whose text `speaks` of one are read."""
    named = {definition.name for definition in facts.definitions if speaks.search(definition.text)}
    if named <= {"__init__"} or facts.cls is None or any(name in facts.cls.members for name in ("train", "eval")):
        return  # or it has a mode of its own
    module, outside = is_module(facts.cls), _outside(facts.cls)
    if not module and not (outside and isinstance(facts.cls.members.get("forward"), FunctionValue)):
        return
    methods = {
        name: member
        for name, member in facts.cls.members.items()
        if isinstance(member, FunctionValue) and member.owner is facts.cls
    }
    found: list[tuple[str, Drop]] = []
    for name, member in methods.items():
        if name in named and shape.method_kind(member.function) != "static" and member.function.parameters:
            found += [(name, drop) for drop in _Method(facts, member).drops()]
    reached = _reached(methods) if found else ()
    for name, drop in found:
        if name in reached or outside:
            yield drop._replace(sure=drop.sure and module and name in reached)


def _outside(cls: ClassValue) -> bool:
    """Whether some base of a class is not known: it may call any method."""
    return any(isinstance(base, External) and base.name not in _PLAIN for base in cls.lineage())


_PLAIN = frozenset({"torch.nn.Module", "builtins.object", "abc.ABC"})


def _reached(methods: dict[str, FunctionValue]) -> set[str]:
    """The methods that `forward` comes to in either mode."""
    found: set[str] = set()
    todo: list[str] = [name for name in ("forward", "__call__") if name in methods]
    while todo:
        name = todo.pop()
        if name in found:
            continue
        found.add(name)
        function = methods[name].function
        own = function.parameters[0].name if function.parameters else ""
        for node, guards in _Guarded(function).nodes():
            if isinstance(node, tree.Call) and isinstance(node.func, tree.Attribute) and not guards.mode:
                if tree.dotted(node.func.value) == own and node.func.attr in methods:
                    todo.append(node.func.attr)
    return found


class _Guards(NamedTuple):
    """What the tests around a node are about: the `mode`, or a `choice` of who calls the method or made the object."""

    mode: bool = False
    choice: bool = False


class _Guarded:
    """The nodes of a method with what is known of the tests around them."""

    def __init__(self, function: tree.Function) -> None:
        self.function = function
        self.flags = {p.name for p in function.parameters if _is_flag(p)}
        self.moded = self._moded()
        self.rates = self._rates()

    def _rates(self) -> set[str]:
        """What is handed to calls that drop: who asks whether it is 0 does not ask for a mode."""
        return {
            tree.dotted(argument.value)
            for node in tree.walk_block(self.function.body)
            if isinstance(node, tree.Call) and tree.dotted(node.func).rpartition(".")[2] in _NAMES
            for argument in node.args
        }

    def _moded(self) -> set[str]:
        """The names that are given something that has to do with the mode."""
        found: set[str] = set()
        for node in tree.walk_block(self.function.body):
            if isinstance(node, (tree.Assign, tree.Named)):
                value = node.value
                targets = node.targets if isinstance(node, tree.Assign) else [node.target]
                if value is not None and self._about_mode(value, found):
                    found |= {part.id for target in targets for part in target.walk() if isinstance(part, tree.Name)}
        return found

    def about_mode(self, node: tree.Expression) -> bool:
        return self._about_mode(node, self.moded)

    @staticmethod
    def _about_mode(node: tree.Expression, moded: set[str]) -> bool:
        return any(
            (isinstance(part, tree.Attribute) and part.attr in _MODES)
            or (isinstance(part, tree.Name) and (part.id in moded or part.id in _MODES))
            for part in node.walk()
        )

    def nodes(self) -> Iterator[tuple[tree.Node, _Guards]]:
        yield from self._block(self.function.body, _Guards())

    def _block(self, block: Sequence[tree.Node], guards: _Guards) -> Iterator[tuple[tree.Node, _Guards]]:
        for statement in block:
            spend(1)
            if isinstance(statement, (tree.Function, tree.Class)):
                continue
            if isinstance(statement, tree.If):
                inner = self._under(statement.test, guards)
                yield from self._expression(statement.test, guards)
                yield from self._block(statement.body, inner)
                yield from self._block(statement.orelse, inner)
                if inner.mode and any(_leaves(b) for b in (statement.body, statement.orelse)):
                    guards = inner  # what follows is for one mode
            elif isinstance(statement, (tree.For, tree.While, tree.With, tree.Try, tree.Match)):
                for part in _blocks(statement):
                    yield from self._block(part, guards)
                for head in _heads(statement):
                    yield from self._expression(head, guards)
            else:
                yield from self._expression(statement, guards)

    def _under(self, test: tree.Expression, guards: _Guards) -> _Guards:
        asked = {part.id for part in test.walk() if isinstance(part, tree.Name)}
        switch = (isinstance(test, tree.Attribute) and tree.dotted(test) not in self.rates) or (
            isinstance(test, tree.Operation) and test.op in ("not", "and", "or")
        )
        return _Guards(guards.mode or self.about_mode(test), guards.choice or switch or bool(asked & self.flags))

    def _expression(self, node: tree.Node, guards: _Guards) -> Iterator[tuple[tree.Node, _Guards]]:
        todo: list[tuple[tree.Node, _Guards]] = [(node, guards)]
        while todo:
            part, around = todo.pop()
            spend(1)
            yield part, around
            if isinstance(part, tree.Conditional):
                inner = self._under(part.test, around)
                todo += [(part.test, around), (part.body, inner), (part.orelse, inner)]
                continue
            for name in part.fields:
                value = getattr(part, name)
                for child in value if isinstance(value, list) else [value]:
                    if isinstance(child, tree.Node) and not isinstance(child, (tree.Function, tree.Class)):
                        todo.append((child, around))


_MODES = frozenset({"training", "is_training", "train", "eval", "inference", "deterministic"})
"""Names that tell, or are asked for, a mode: of a module of torch it is `training`."""


def _is_flag(parameter: tree.Parameter) -> bool:
    """Whether a parameter is there to choose something: it is a bool or None unless somebody says otherwise."""
    default = parameter.default
    return isinstance(default, tree.Constant) and (default.value is None or isinstance(default.value, bool))


def _leaves(block: Sequence[tree.Node]) -> bool:
    return bool(block) and isinstance(block[-1], (tree.Return, tree.Raise, tree.Jump))


def _blocks(statement: tree.Statement) -> list[tree.Block]:
    if isinstance(statement, (tree.For, tree.While)):
        return [statement.body, statement.orelse]
    if isinstance(statement, tree.Try):
        return [statement.body, *statement.handlers, statement.orelse, statement.final]
    if isinstance(statement, tree.Match):
        return list(statement.arms)
    return [statement.body] if isinstance(statement, tree.With) else []


def _heads(statement: tree.Statement) -> list[tree.Expression]:
    if isinstance(statement, tree.For):
        return [statement.iter]
    if isinstance(statement, tree.While):
        return [statement.test]
    if isinstance(statement, tree.With):
        return [item for item, _ in statement.items]
    return [statement.subject] if isinstance(statement, tree.Match) else []


class _Method:
    """One method, and what in it drops."""

    def __init__(self, facts: ClassFacts, member: FunctionValue) -> None:
        self.facts, self.member = facts, member
        self.function = member.function
        self.owner = self.function.parameters[0].name
        self.guarded = _Guarded(self.function)

    def drops(self) -> Iterator[Drop]:
        layers: dict[str, tuple[tree.Call, str]] = {}
        spoken = self._spoken()
        for node, guards in self.guarded.nodes():
            if guards.mode:
                continue
            if isinstance(node, tree.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], tree.Name):
                made = self._layer(node.value)
                if made is not None and spoken.get(node.targets[0].id) == 2:  # named once, and called once
                    layers[node.targets[0].id] = made
            if not isinstance(node, tree.Call):
                continue
            drop = self._call(node, layers)
            if drop is not None:
                yield drop._replace(sure=drop.sure and not guards.choice)

    def _spoken(self) -> dict[str, int]:
        """How often each name is spoken of."""
        found: dict[str, int] = {}
        for node in tree.walk_block(self.function.body):
            if isinstance(node, tree.Name):
                found[node.id] = found.get(node.id, 0) + 1
        return found

    def _call(self, call: tree.Call, layers: dict[str, tuple[tree.Call, str]]) -> Drop | None:
        made = self._layer(call.func)
        where: Place | None = None
        if made is None and isinstance(call.func, tree.Name) and call.func.id in layers:
            made = layers[call.func.id]
            where = self.member.place(made[0])
        if made is not None:
            layer, name = made
            rate = _argument(layer, 0, "p")
            answer = self._rate(rate)
            if answer is None or _open(layer):
                return None
            return Drop(self.member.place(call), call, LAYERS[name], rate, self.owner, answer, layer=True, made=where)
        name = tree.dotted(call.func)
        if not name or name.startswith(f"{self.owner}.") or _open(call):
            return None
        last = self._torch(name, "torch.nn.functional")
        if last == _ATTENTION:
            rate = _argument(call, 4, "dropout_p")
            answer = self._rate(rate) if rate is not None else None
        elif last in _ON or last in _OFF:
            if _argument(call, 2, "training") is not None:
                return None
            rate = _argument(call, 1, "p")
            answer = self._rate(rate)
        else:
            return None
        if answer is None:
            return None
        return Drop(self.member.place(call), call, last, rate, self.owner, answer, off=last in _OFF)

    def _layer(self, node: tree.Node | None) -> tuple[tree.Call, str] | None:
        """A layer that drops, and is made here."""
        if not isinstance(node, tree.Call):
            return None
        name = tree.dotted(node.func)
        last = self._torch(name, "torch.nn") if name else ""
        return (node, last) if last in LAYERS else None

    def _torch(self, name: str, module: str) -> str:
        """The name of something of a module of torch, by what the file has imported; else nothing."""
        if name.rpartition(".")[2] not in _NAMES:
            return ""
        found = resolved(self.facts.home, name)
        if not isinstance(found, str):
            return ""
        head, _, last = found.rpartition(".")
        return last if head == module else ""

    def _rate(self, rate: tree.Expression | None) -> bool | None:
        """Whether something is dropped at a rate for sure; None if nothing is, or the mode decides."""
        if rate is None:
            return True  # torch's own, which is 0.5
        if self.guarded.about_mode(rate):
            return None
        if isinstance(rate, tree.Constant):
            return True if rate.value else None
        name = tree.dotted(rate)
        if any(name == parameter.name for parameter in self.function.parameters):
            return None  # whoever calls the method knows why
        if name.startswith(f"{self.owner}.") and name.count(".") == 1:
            return self._kept(name.partition(".")[2])
        return False

    def _kept(self, attribute: str) -> bool | None:
        """Whether an attribute is a rate that is there for good; None if it is 0, or another method writes it."""
        assert self.facts.cls is not None
        sure: bool | None = False if _outside(self.facts.cls) else None  # nothing gives it: it may be a misnomer
        for cls in self.facts.cls.lineage():
            for name, member in cls.members.items() if isinstance(cls, ClassValue) else ():
                if not isinstance(member, FunctionValue) or not member.function.parameters:
                    continue
                for value in _written(member.function, attribute):
                    if name != "__init__" or self.guarded.about_mode(value):
                        return None
                    if isinstance(value, tree.Constant):
                        if not value.value:
                            return None
                        sure = True
                    else:  # a rate that somebody gives: that the default is 0 makes the call no better
                        sure = bool(tree.dotted(value)) or _setting(value)
        return sure


_NAMES = frozenset({*_ON, *_OFF, _ATTENTION, *LAYERS})


def _written(function: tree.Function, attribute: str) -> Iterator[tree.Expression]:
    """What a method gives an attribute of its object."""
    own = function.parameters[0].name
    for node in tree.walk_block(function.body):
        if isinstance(node, tree.Assign) and node.value is not None:
            if any(tree.dotted(target) == f"{own}.{attribute}" for target in node.targets):
                yield node.value


def _setting(node: tree.Expression) -> bool:
    """Whether a value is read from settings: `getattr(args, "dropout", 0.0)`, `config.get("dropout")`."""
    return isinstance(node, tree.Call) and tree.dotted(node.func).rpartition(".")[2] in ("getattr", "get", "float")


def _argument(call: tree.Call, index: int, keyword: str) -> tree.Expression | None:
    plain = [argument for argument in call.args if argument.keyword is None]
    for argument in call.args:
        if argument.keyword == keyword:
            return argument.value
    return plain[index].value if len(plain) > index else None


def _open(call: tree.Call) -> bool:
    """Whether not all arguments show."""
    return any(argument.star for argument in call.args)
