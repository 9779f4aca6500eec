"""States that a module keeps in an attribute from one call to the next, together with their graph.

`self.h = self.cell(x, self.h)` leads from each call to the one before it. A backward in each round of a loop then goes
through all earlier rounds, whose graphs are freed. The `forward` is read as text, statement by statement.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from gradcheck_lint.facts import query, regone
from gradcheck_lint.facts.led_to import Led
from gradcheck_lint.facts.unreached import backwards, touches
from gradcheck_lint.source import events as ev
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source import tree
from gradcheck_lint.source.effort import spend
from gradcheck_lint.source.natures import Module
from gradcheck_lint.source.values import ClassValue, External, FunctionValue, Thing, things

_CUTS = frozenset({"detach", "detach_", "data", "item"})


class Remembered(NamedTuple):
    """A backward that goes through the state that `module` keeps as `name`, where its `forward` has a `run`."""

    backward: ev.Backward
    module: Thing
    name: str
    run: ev.Forward
    sure: bool


def remembered(timeline: tl.Timeline) -> Iterator[Remembered]:
    """The backwards of a loop that go on into the earlier rounds, by way of what a module remembers."""
    if timeline.cut or timeline.hooked or timeline.owner is not None or not timeline.has(ev.Forward):
        return
    led = {id(event): found for event, found in backwards(timeline)}
    for event, around in timeline.located(ev.Backward):
        turns = [one for one in query.loops(around) if isinstance(one.node, (tree.For, tree.While))]
        if event.engine or not turns or not regone.plain(event) or "try" in event.context or regone.off(event):
            continue
        loop = turns[-1]
        if any(isinstance(part, tl.Jump) for part in loop.body.steps) or not query.always(query.inside(around, loop)):
            continue
        for module, name in _states(led[id(event)]):
            run = next((e for e, _ in timeline.within(loop) if isinstance(e, ev.Forward) and _runs(e, module)), None)
            if run is not None and _keeps(timeline, module, name):
                sure = (
                    not query.unseen(timeline)
                    and not _lent(timeline, module)
                    and not _elsewhere(timeline, module, name)
                )
                yield Remembered(event, module, name, run, sure)
                break


def _states(led: Led) -> Iterator[tuple[Thing, str]]:
    """What a backward comes to, or may come to, that modules keep: attributes that their `forward` gives a value."""
    met = [one.parent for one in led.alive.values() if one.parent is not None]
    yield from ((base.core, name) for base, name in met if isinstance(base.core.what, Module) and name[:1] != "[")
    for module in led.through.values():
        forward = module.cls.member("forward") if isinstance(module.cls, ClassValue) else None
        for statement in forward.function.body if isinstance(forward, FunctionValue) else ():
            targets = statement.targets if isinstance(statement, tree.Assign) else []
            names = [tree.dotted(one) for target in targets for one in _flat(target)]
            yield from ((module, name.partition(".")[2]) for name in names if name.startswith("self."))


def _runs(event: ev.Forward, module: Thing) -> bool:
    return not regone.off(event) and event.subject.core is module.core


def _keeps(timeline: tl.Timeline, module: Thing, name: str) -> bool:
    """Whether `forward` alone gives the attribute a value, and always one that was computed with the last."""
    cls = module.cls
    if not isinstance(cls, ClassValue) or module.summary or not module.certain:
        return False
    bases = [one for one in cls.lineage() if one is not cls]
    if not all(isinstance(one, External) and one.name.startswith(("torch.nn", "builtins.")) for one in bases):
        return False
    functions = {key: one.function for key, one in cls.members.items() if isinstance(one, FunctionValue)}
    forward = functions.get("forward")
    if forward is None or forward.decorators:
        return False
    others = _givers(functions, name)
    outside = rf"(?<!\bself)\.{re.escape(name)}\b"
    called = _called(others)
    if any(re.search(outside + called, text) for text in {timeline.home.text, cls.home.text}):
        return False  # it is set back, or cut off, from outside
    if _set_back(timeline, module, name, functions):
        return False
    if re.search(r"\bsetattr\(|\b_?repackage|\.apply\(|__dict__", cls.home.text + timeline.home.text):
        return False
    within = {tree.last_name(node.func) for node in tree.walk_block(forward.body) if isinstance(node, tree.Call)}
    return not others & within and _Forward(name, frozenset(functions)).carries(forward)


def _givers(functions: Mapping[str, tree.Function], name: str) -> set[str]:
    """The methods but `forward` that have to do with the attribute."""
    return {key for key, one in functions.items() if key != "forward" and _gives(one, name)}


def _called(methods: set[str]) -> str:
    """An alternative of a pattern, for a call of one of these from outside."""
    return "".join(rf"|(?<!\bself)\.{re.escape(key)}\(" for key in sorted(methods - {"__init__"}))


def _set_back(timeline: tl.Timeline, module: Thing, name: str, functions: Mapping[str, tree.Function]) -> bool:
    """Whether a call that was followed, wherever its code stands, gives the attribute a value."""
    own = [functions[key] for key in ("__init__", "forward") if key in functions]
    return any(
        event.attr == name
        and any(one.core is module.core for one in things(event.subject))
        and not any(event.place.chunk.function is function for function in own)
        for event in timeline.events(ev.SetAttribute)
    )


def _lent(timeline: tl.Timeline, module: Thing) -> bool:
    """Whether code that was not seen has the module: it may set back what that keeps."""
    lent = [one for event in timeline.events(ev.Unknown) for one in things(event.subject)]
    return any(touches(one, module) for one in lent)


def _elsewhere(timeline: tl.Timeline, module: Thing, name: str) -> bool:
    """Whether some other file of the project has to do with the attribute, or calls what sets it back."""
    cls = module.cls
    assert isinstance(cls, ClassValue)
    functions = {key: one.function for key, one in cls.members.items() if isinstance(one, FunctionValue)}
    pattern = re.compile(rf"(?<!\bself)\.{re.escape(name)}\b" + _called(_givers(functions, name)))
    files = [one for one in timeline.home.project.modules.values() if one is not None]
    spend(len(files))
    return any(pattern.search(one.text) for one in files)


def _gives(function: tree.Function, name: str) -> bool:
    """Whether a method has to do with the attribute, other than reading it."""
    spend(len(function.body))
    return any(
        isinstance(node, tree.Attribute) and node.attr == name and tree.dotted(node) == f"self.{name}"
        for node in tree.walk_block(function.body)
    )


class _Forward:
    """Follows what the state comes to in the statements of a `forward`."""

    def __init__(self, name: str, methods: frozenset[str]) -> None:
        self.methods = methods
        self.state = f"self.{name}"
        self.carried = {self.state}  # what has the state in it
        self.learned: set[str] = set()  # of that, what came of a layer
        self.given = False
        self.returned = False
        self.sound = True

    def carries(self, forward: tree.Function) -> bool:
        self.block(forward.body)
        return self.given and self.returned and self.sound

    def block(self, body: tree.Block) -> None:
        for statement in body:
            if isinstance(statement, tree.Assign) and statement.value is not None:
                self.assign(statement, statement.value)
            elif isinstance(statement, tree.If):
                # the first value is one of its own; what other tests decide is not known
                if self.first(statement):
                    continue
                self.sound = self.sound and not self.writes([statement])
            elif not isinstance(statement, (tree.Evaluate, tree.Return, tree.Assert)):
                self.sound = self.sound and not self.writes([statement])
            elif any(self.mentions(node) for node in self.cuts(statement)):
                self.sound = False
            elif isinstance(statement, tree.Return):
                self.returned = self.returned or self.mentions(statement)

    def first(self, statement: tree.If) -> bool:
        """Whether a test asks if there is a state yet."""
        test = statement.test
        return (
            isinstance(test, tree.Operation)
            and test.op in ("is", "==")
            and len(test.operands) == 2
            and tree.dotted(test.operands[0]) in self.carried
            and isinstance(test.operands[1], tree.Constant)
            and test.operands[1].value is None
            and not statement.orelse
        )

    def writes(self, body: tree.Block) -> bool:
        return any(isinstance(node, tree.Node) and tree.dotted(node) in self.carried for node in tree.walk_block(body))

    def cuts(self, node: tree.Node) -> list[tree.Node]:
        """What is cut off somewhere in a node."""
        return [one.value for one in node.walk() if isinstance(one, tree.Attribute) and one.attr in _CUTS]

    def mentions(self, node: tree.Node) -> bool:
        return any(isinstance(one, tree.Node) and tree.dotted(one) in self.carried for one in node.walk())

    def assign(self, statement: tree.Assign, value: tree.Expression) -> None:
        targets = [tree.dotted(one) for target in statement.targets for one in _flat(target)]
        if any(self.mentions(node) for node in self.cuts(value)):
            self.sound = False
        if isinstance(value, (tree.Comprehension, tree.Conditional)) and self.mentions(value):
            self.sound = False
        if not self.mentions(value):
            if self.state in targets:
                self.sound = False
            self.carried -= set(targets) - {self.state}
            return
        calls = [node for node in value.walk() if isinstance(node, tree.Call) and self.mentions(node)]
        parts = [tree.dotted(node.func).split(".") for node in calls]
        layer = any(part[0] == "self" and len(part) == 2 for part in parts)
        if any(part[0] == "self" and part[1:2] and part[1] in self.methods for part in parts):
            self.sound = False  # what a method does to it was not read
        layer = layer or any(tree.dotted(node) in self.learned for node in value.walk())
        if layer:
            self.learned |= set(targets)
        if self.state in targets:
            self.given = self.given or layer
            self.sound = self.sound and layer
        self.carried |= {target for target in targets if target}


def _flat(target: tree.Expression) -> Iterator[tree.Expression]:
    if isinstance(target, tree.Display):
        for item in target.items:
            yield from _flat(item)
    else:
        yield target
