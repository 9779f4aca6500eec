"""What decorators make of a function: the project's own are followed, of others it is known what they leave alone."""

from __future__ import annotations

import sys

from gradcheck_lint.source import tree
from gradcheck_lint.source.natures import Opaque
from gradcheck_lint.source.run import unseen
from gradcheck_lint.source.run.arguments import Arguments
from gradcheck_lint.source.run.holdings import free_values, held
from gradcheck_lint.source.run.machine import Machine
from gradcheck_lint.source.run.touch import known, unknown
from gradcheck_lint.source.values import ClassValue, External, FunctionValue, Partial, Thing, Value, only, options

INERT = frozenset(
    "staticmethod classmethod property cached_property setter getter deleter abstractmethod abstractproperty override"
    " final overload contextmanager asynccontextmanager wraps no_grad inference_mode enable_grad set_grad_enabled cache"
    " lru_cache dataclass total_ordering autocast custom_fwd custom_bwd jit script compile ignore unused export fixture"
    " parametrize main command group option argument automain record rank_zero_only once timeit typechecked beartype"
    " njit njit_ deprecated experimental add_start_docstrings replace_return_docstrings once_differentiable".split()
)
"""Decorators that turn no cycle of gradients, known by the last part of their name."""


UNSEEN = External("?.decorator")
"""Stands for what a decorator made that cannot be seen."""


REGISTER = 4
"""As often a decorator is seen to give the function back and to turn nothing: then it is one that enters it somewhere.

A package of models has one such decorator and a thousand functions below it.
"""


def wrap(machine: Machine, function: FunctionValue) -> None:
    """Note what the decorators of a function make of it, the innermost first.

    Where neither the function nor a decorator speaks of training, that is put off until the function is called: many a
    decorator only enters it in a list.
    """
    decorators = function.function.decorators
    if not decorators:
        return
    if machine.relevant(function.function) or any(_speaks(machine, decorator) for decorator in decorators):
        _wrap(machine, function, decorators)
    else:
        machine.decorators[id(function.function)] = decorators


def _speaks(machine: Machine, decorator: tree.Expression) -> bool:
    """Whether a decorator is made by a call, or is a function whose text speaks of training."""
    if not isinstance(decorator, (tree.Name, tree.Attribute)):
        return tree.last_name(decorator) not in INERT
    value = machine.eval(decorator)
    return any(
        isinstance(o, FunctionValue) and (machine.relevant(o.function) or bool(held(machine, o)))
        for o in options(value)
    )


def _late(machine: Machine, target: FunctionValue) -> None:
    """Look at the decorators of a function that was not called before."""
    decorators = machine.decorators.pop(id(target.function), None)
    if decorators is None:
        return
    bare = unwrapped(target)
    bare.receiver = None
    with machine.scope(target):
        _wrap(machine, bare, decorators)
    machine.wrapped[id(target.function)] = bare.wrapper, bare.manages


def _wrap(machine: Machine, function: FunctionValue, decorators: list[tree.Expression]) -> None:
    value: Value = function
    for decorator in reversed(decorators):
        name = tree.last_name(decorator)
        if name in INERT and not _own(machine.eval(decorator.func if isinstance(decorator, tree.Call) else decorator)):
            function.manages = function.manages or name in ("contextmanager", "asynccontextmanager")
            continue
        value = _applied(machine, machine.eval(decorator), value, decorator)
    if not (isinstance(value, FunctionValue) and value.function is function.function):
        function.wrapper = value


def wrap_class(machine: Machine, cls: ClassValue) -> Value:
    """What the decorators of a class make of it."""
    value: Value = cls
    for decorator in reversed(cls.node.decorators):
        if tree.last_name(decorator) in INERT and not _own(
            machine.eval(decorator.func if isinstance(decorator, tree.Call) else decorator)
        ):
            continue
        made = _applied(machine, machine.eval(decorator), value, decorator)
        if made is UNSEEN:
            cls.add_base(UNSEEN)  # which makes it a class of which not all is known
        elif isinstance(made, (ClassValue, FunctionValue, Partial)):
            value = made
    return value


def _own(value: Value) -> bool:
    """Whether a decorator is the project's own, whatever it is called."""
    return any(isinstance(option, (FunctionValue, ClassValue, Partial)) for option in options(value))


def _applied(machine: Machine, decorator: Value, value: Value, node: tree.Expression) -> Value:
    """What a decorator gives for a value."""
    call = node if isinstance(node, tree.Call) else tree.Call(node.at, node, [])
    if isinstance(decorator, FunctionValue):
        machine.spotted.note(decorator)
        key = id(decorator.function)
        if machine.registers.get(key, 0) >= REGISTER:
            machine.spotted.given(value)
            unseen.escape([value, *free_values(machine, decorator)])  # where it enters it, others may be
            return value
        before = machine.turned
        # whatever its text says: what it gives is what is called
        made = machine.follow(decorator, Arguments([value], {}), node, forced=True)
        quiet = made is value and machine.turned == before
        machine.registers[key] = machine.registers.get(key, 0) + 1 if quiet else -sys.maxsize
        return made
    if isinstance(decorator, (ClassValue, Partial)):
        return machine.call(decorator, Arguments([value], {}), call)
    thing = only(decorator)
    origin = decorator.name if isinstance(decorator, External) else thing.origin if thing else ""
    return value if known(origin) and not origin.startswith("functools.singledispatch") else UNSEEN


def unwrapped(function: FunctionValue) -> FunctionValue:
    """The function without its decorators."""
    bare = FunctionValue(function.function, function.home, function.scope, function.owner, function.receiver)
    bare.chunk, bare.manages, bare.bare = function.chunk, function.manages, True
    return bare


def call(machine: Machine, target: FunctionValue, args: Arguments, node: tree.Call) -> Value | None:
    """Call what the decorators made of a function; None if the function itself is called."""
    if target.bare:
        return None
    _late(machine, target)
    if id(target.function) in machine.wrapped:
        target.wrapper, target.manages = machine.wrapped[id(target.function)]
    wrapper = target.wrapper
    # what the decorators made may be the function itself, on a path
    under_way = id(target.function) in machine.unwrapping
    if wrapper is None or under_way or any(f.function is target.function for f in machine.frames):
        return None
    if wrapper is UNSEEN or (isinstance(wrapper, Thing) and isinstance(wrapper.what, Opaque)):
        result = machine.call(unwrapped(target), args, node)
        found = held(machine, wrapper, target.receiver, *args.all())
        if found:
            unknown(machine, node, found.subject, target.function.name)
        return result
    given = (
        args if target.receiver is None else Arguments([target.receiver, *args.positional], args.keywords, args.open)
    )
    machine.unwrapping.add(id(target.function))
    try:
        return machine.call(wrapper, given, node)
    finally:
        machine.unwrapping.discard(id(target.function))
