"""Averages of a class of the project that have a method by which they are moved, and nobody calls it.

Nothing is known of such a class but what its methods are called, so what counts is how the program speaks of its
object: it may only call methods by name, and none of them is the one that moves the average.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from gradcheck_lint.facts.following import AVERAGE
from gradcheck_lint.source import events as ev
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source import tree
from gradcheck_lint.source.effort import spend
from gradcheck_lint.source.natures import Instance, Module
from gradcheck_lint.source.place import Place
from gradcheck_lint.source.values import ClassValue, External, FunctionValue, only

_MOVES = re.compile(r"(?:update|step|move|accumulate)(?:_(?:ema|parameters|params|weights|average|shadow|model))?")
_USES = re.compile(r"(?:apply|copy|swap|load|average|store|use|state_dict|get|shadow)\w*|__call__|forward")
_WRITING = frozenset({"mul_", "lerp_", "copy_", "add_", "sub_"})
_COMMENT = re.compile(r"#[^\n]*")


class Forgotten(NamedTuple):
    """An average, as the code calls it, where it is made, the method that would move it, and one that is called."""

    name: str
    place: Place
    moves: str
    uses: str
    step: ev.Step


def forgotten(timeline: tl.Timeline) -> Iterator[Forgotten]:
    """The averages of a program that trains, which are used and never moved."""
    if timeline.cut or timeline.hooked or timeline.owner is not None:
        return
    step = next(timeline.events(ev.Step), None)
    told: set[int] = set()
    for event in timeline.events(ev.Assign) if step is not None else ():
        thing, name = only(event.value), tree.dotted(event.target)
        if thing is None or step is None or not name or id(thing) in told:
            continue
        if not isinstance(thing.what, (Instance, Module)):
            continue
        if not isinstance(thing.cls, ClassValue) or not AVERAGE.search(thing.cls.name) or event.expression is None:
            continue
        told.add(id(thing))
        methods = _methods(thing.cls)
        moving = [one for one in methods if _MOVES.fullmatch(one) and _writes(methods[one])]
        if not moving or thing.escaped or thing.summary or thing.copy_of is not None:
            continue
        called = _called(timeline, name.rpartition(".")[2], methods, set(moving))
        uses = next((one for one in called or () if _USES.fullmatch(one)), None)
        if uses is not None:
            yield Forgotten(name, Place(event.place.chunk, event.expression), moving[0], uses, step)


def _methods(cls: ClassValue) -> dict[str, tree.Function]:
    """The methods of a class, if all of them are seen and none is called by itself."""
    found: dict[str, tree.Function] = {}
    for base in cls.lineage():
        if isinstance(base, External) and base.name in ("builtins.object", "object", "torch.nn.Module"):
            continue
        if not isinstance(base, ClassValue):
            return {}
        for name, member in base.members.items():
            if isinstance(member, FunctionValue):
                found.setdefault(name, member.function)
    for function in found.values():
        for node in tree.walk_block(function.body):
            if isinstance(node, tree.Attribute) and ("hook" in node.attr or node.attr in ("submit", "Thread")):
                return {}
    return found


def _writes(function: tree.Function) -> bool:
    """Whether a method changes tensors, or gives what its object keeps another value."""
    for node in tree.walk_block(function.body):
        if isinstance(node, tree.Call) and isinstance(node.func, tree.Attribute) and node.func.attr in _WRITING:
            return True
        if isinstance(node, tree.Assign):
            if any(isinstance(one, (tree.Subscript, tree.Attribute)) for one in node.targets):
                return True
    return False


def _called(timeline: tl.Timeline, name: str, methods: dict[str, tree.Function], moving: set[str]) -> list[str] | None:
    """The methods that the project calls of what is called so; None if one may move it, or it goes elsewhere."""
    mention = re.compile(rf"(?<![\w\"'])(?:self\.)?{re.escape(name)}\b(?P<then>\s*\.\s*\w+\s*\(|\s*=(?!=)|\s+is\b)?")
    found: list[str] = []
    for module in timeline.home.project.modules.values():
        if module is None or name not in module.text:
            continue
        spend(1 + len(module.text) // 200)
        for match in mention.finditer(_COMMENT.sub("", module.text)):
            then = match["then"] or ""
            if "(" not in then:
                if not then:
                    return None
                continue
            method = then.strip(" .(\n\t")
            if method not in methods or method in moving or _inner(methods, method) & moving:
                return None
            found.append(method)
    return found


def _inner(methods: dict[str, tree.Function], name: str) -> set[str]:
    """What a method calls of its own object, at any depth."""
    found: set[str] = set()
    todo = [name]
    while todo:
        function = methods.get(todo.pop())
        for node in tree.walk_block(function.body) if function is not None else ():
            called = tree.dotted(node) if isinstance(node, tree.Attribute) else ""
            inner = called.removeprefix("self.")
            if called.startswith("self.") and inner in methods and inner not in found:
                found.add(inner)
                todo.append(inner)
    return found
