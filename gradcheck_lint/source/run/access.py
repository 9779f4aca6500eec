"""Attributes that are code: descriptors, and what a property does when it is assigned or deleted."""

from __future__ import annotations

from gradcheck_lint.source import tree
from gradcheck_lint.source.natures import Module, Super
from gradcheck_lint.source.run.arguments import Arguments
from gradcheck_lint.source.run.holdings import held
from gradcheck_lint.source.run.machine import Machine
from gradcheck_lint.source.run.touch import turns, unknown
from gradcheck_lint.source.values import ClassValue, Constant, FunctionValue, Thing, Value, only


def read(machine: Machine, owner: Thing, member: Value, node: tree.Node) -> Value | None:
    """What reading an attribute gives whose class has `member` under its name; None if that is no descriptor."""
    method = _method(member, "__get__")
    if method is None:
        return None
    machine.spotted.note(method)
    return machine.follow(method, Arguments([owner, owner.cls or Constant(None)], {}), node)


def write(machine: Machine, owner: Thing, attr: str, value: Value, node: tree.Node) -> None:
    """Run what the class has for assigning an attribute: a setter, a descriptor, or `__setattr__`."""
    if not isinstance(owner.cls, ClassValue) or isinstance(owner.what, Super):
        return
    setter = owner.cls.member(f"__{attr}.setter__")
    if isinstance(setter, FunctionValue):
        _run(machine, setter.bind(owner), Arguments([value], {}), node)
    descriptor = owner.cls.member(attr)
    method = _method(descriptor, "__set__") if descriptor is not None else None
    if method is not None:
        _run(machine, method, Arguments([owner, value], {}), node)
    every = owner.cls.member("__setattr__")
    if not isinstance(every, FunctionValue) or any(f.function is every.function for f in machine.frames):
        return
    # that of a module is called for each layer in it
    if not isinstance(owner.what, Module) or turns(machine, every, node):
        _run(machine, every.bind(owner), Arguments([Constant(attr), value], {}), node)


def delete(machine: Machine, owner: Thing, attr: str, node: tree.Node) -> None:
    """Run what the class has for deleting an attribute."""
    deleter = owner.cls.member(f"__{attr}.deleter__") if isinstance(owner.cls, ClassValue) else None
    if isinstance(deleter, FunctionValue):
        _run(machine, deleter.bind(owner), Arguments([], {}), node)


def some(machine: Machine, owner: Thing, how: str, node: tree.Node) -> None:
    """Tell what may be done where the name of the attribute is not seen; `how` is "setter" or "deleter"."""
    if not isinstance(owner.cls, ClassValue) or isinstance(owner.what, Super):
        return
    members = [b.members for b in owner.cls.lineage() if isinstance(b, ClassValue)]
    names = dict.fromkeys(n for found in members for n in found if n.endswith(f".{how}__") or n == "__setattr__")
    found = [m.bind(owner) for m in map(owner.cls.member, names) if isinstance(m, FunctionValue)]
    turning = [function for function in found if turns(machine, function, node)]
    if turning:
        unknown(machine, node, held(machine, *turning).subject, how)


def _method(member: Value, name: str) -> FunctionValue | None:
    """A special method of an object of a class of the project."""
    thing = only(member)
    found = thing.cls.member(name) if thing is not None and isinstance(thing.cls, ClassValue) else None
    return found.bind(thing) if isinstance(found, FunctionValue) and thing is not None else None


def _run(machine: Machine, function: FunctionValue, args: Arguments, node: tree.Node) -> None:
    machine.spotted.note(function)
    machine.follow(function, args, node)
