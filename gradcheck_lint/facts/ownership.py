"""Who makes an object, and which module it becomes a part of: for rules about what a module consists of.

The answers come from the text first, so that only the few classes that can matter are interpreted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

from gradcheck_lint.facts.classes import ClassFacts, class_facts
from gradcheck_lint.source.events import Build, SetAttribute
from gradcheck_lint.source.natures import Module
from gradcheck_lint.source.values import ClassValue, External, FunctionValue, Items, Table, Thing, Value, options

if TYPE_CHECKING:
    from gradcheck_lint.source.events import Event

_CONTAINERS = ("torch.nn.Sequential", "torch.nn.ModuleList", "torch.nn.ModuleDict")
_CLASS = re.compile(r"^[ \t]*class\s+(\w+)\s*(?:\(([^)]*)\))?\s*:", re.MULTILINE)
_MADE = re.compile(r"\b([A-Z]\w*)\((?<!Error\()(?<!Output\()(?<!Exception\()")


@lru_cache(maxsize=16)
def classes(text: str) -> dict[str, str]:
    """The classes that a text defines, each with the text of its bases."""
    return {name: bases or "" for name, bases in _CLASS.findall(text)}


def modules_made(facts: ClassFacts, text: str) -> bool:
    """Whether a text calls a class of the project that may be a module."""
    for name in dict.fromkeys(_MADE.findall(text)):
        for file in (facts.home, *(facts.home.imports if name not in classes(facts.home.text) else ())):
            if _may_be_module(classes(file.text), name):
                return True
    return False


def _may_be_module(known: dict[str, str], name: str, depth: int = 0) -> bool:
    found = known.get(name)
    if not found or depth > 4:
        return False
    if re.search(r"\bnn\.|Module|Layer|Model", found):
        return True
    return any(_may_be_module(known, base, depth + 1) for base in re.findall(r"\w+", found))


def extended(facts: ClassFacts) -> bool:
    """Whether some class of the project derives from it."""
    derived = re.compile(rf"^[ \t]*class\s+\w+\s*\([^)]*\b{facts.name}\b", re.MULTILINE)
    return any(derived.search(text) for text in facts.elsewhere())


def owners(facts: ClassFacts) -> Iterator[tuple[str, Event]]:
    """How modules get hold of objects of a class: the attribute ("" in a container of torch), and the event."""
    machine, name = facts.machine, re.compile(rf"\b{facts.name}\(")
    for module in list(machine.project.modules.values()):
        if module is None or not name.search(module.text):
            continue
        for other in class_facts(machine, module):
            if other.qualname != facts.qualname and name.search(other.text) and other.is_module:
                for event in other.made.events(SetAttribute, Build):
                    if isinstance(event, Build) and _contains(event, facts):
                        yield "", event
                    elif isinstance(event, SetAttribute) and event.concerns(other.instance) and _kept(event, facts):
                        yield event.attr, event
        machine.namespace(module)
    for timeline in list(machine.timelines):
        for event in timeline.builds:
            if _contains(event, facts):
                yield "", event
            attribute = _handed_in(event, facts)
            if attribute is not None:
                yield attribute, event


def _kept(event: SetAttribute, facts: ClassFacts) -> bool:
    """Whether an attribute is assigned an object of the class."""
    return any(_is_one(o, facts) for o in options(event.value))


def _is_one(value: Value, facts: ClassFacts) -> bool:
    return isinstance(value, Thing) and value.cls is facts.cls


def _held(value: Value | None, facts: ClassFacts) -> bool:
    """Whether a value is an object of the class, or a list or dictionary with one in it."""
    for option in options(value):
        if _is_one(option, facts):
            return True
        inner: list[Value] = []
        if isinstance(option, (Items, Table)):
            inner = list(option.items if isinstance(option, Items) else option.entries.values())
        if any(_is_one(o, facts) for item in inner for o in options(item)):
            return True
    return False


def _contains(event: Build, facts: ClassFacts) -> bool:
    """Whether a container of torch is built with an object of the class in it."""
    made = event.subject.cls
    held = isinstance(made, External) and made.name in _CONTAINERS
    return held and any(_held(a, facts) for a in event.args.all())


def _handed_in(event: Build, facts: ClassFacts) -> str | None:
    """The attribute in which a module keeps the object of the class that it is built with."""
    thing, args = event.subject, event.args
    if not isinstance(thing.what, Module):
        return None
    init = thing.cls.member("__init__") if isinstance(thing.cls, ClassValue) else None
    if not isinstance(init, FunctionValue):
        return None
    found = facts.machine.project.definition_of.get(id(init.function))
    names = [p.name for p in init.function.parameters[1:] if not p.star]
    given = [*zip(names, args.positional, strict=False), *args.keywords.items()]
    for name, value in given:
        if found is not None and any(_is_one(o, facts) for o in options(value)):
            kept = re.search(rf"self\.(\w+)\s*=\s*{name}\b\s*$", found[1].text, re.MULTILINE)
            if kept is not None:
                return kept.group(1)
    return None
