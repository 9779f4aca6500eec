"""What decorators make of a function: the project's own are followed, of others it is known what they leave alone."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from gradcheck_lint.source import tree
from gradcheck_lint.source.holdings import free_values, held
from gradcheck_lint.source.touch import known
from gradcheck_lint.source.values import ClassValue, External, FunctionValue, Partial, Thing, Value, only, options

if TYPE_CHECKING:
    from gradcheck_lint.source.interpret import Arguments, Interpreter

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


def wrap(i: Interpreter, function: FunctionValue) -> None:
    """Note what the decorators of a function make of it, the innermost first.

    Where neither the function nor a decorator speaks of training, that is put off until the function is called: many a
    decorator only enters it in a list.
    """
    decorators = function.function.decorators
    if not decorators:
        return
    if i.relevant(function.function) or any(_speaks(i, decorator) for decorator in decorators):
        _wrap(i, function, decorators)
    else:
        i.decorators[id(function.function)] = decorators


def _speaks(i: Interpreter, decorator: tree.Expression) -> bool:
    """Whether a decorator is made by a call, or is a function whose text speaks of training."""
    if not isinstance(decorator, (tree.Name, tree.Attribute)):
        return tree.last_name(decorator) not in INERT
    value = i.eval(decorator)
    return any(isinstance(o, FunctionValue) and (i.relevant(o.function) or bool(held(i, o))) for o in options(value))


def _late(i: Interpreter, target: FunctionValue) -> None:
    """Look at the decorators of a function that was not called before."""
    decorators = i.decorators.pop(id(target.function), None)
    if decorators is None:
        return
    bare = unwrapped(target)
    bare.receiver = None
    with i.scope(target):
        _wrap(i, bare, decorators)
    i.wrapped[id(target.function)] = bare.wrapper, bare.manages


def _wrap(i: Interpreter, function: FunctionValue, decorators: list[tree.Expression]) -> None:
    value: Value = function
    for decorator in reversed(decorators):
        name = tree.last_name(decorator)
        if name in INERT and not _own(i.eval(decorator.func if isinstance(decorator, tree.Call) else decorator)):
            function.manages = function.manages or name in ("contextmanager", "asynccontextmanager")
            continue
        value = _applied(i, i.eval(decorator), value, decorator)
    if not (isinstance(value, FunctionValue) and value.function is function.function):
        function.wrapper = value


def wrap_class(i: Interpreter, cls: ClassValue) -> Value:
    """What the decorators of a class make of it."""
    value: Value = cls
    for decorator in reversed(cls.node.decorators):
        if tree.last_name(decorator) in INERT and not _own(
            i.eval(decorator.func if isinstance(decorator, tree.Call) else decorator)
        ):
            continue
        made = _applied(i, i.eval(decorator), value, decorator)
        if made is UNSEEN:
            cls.add_base(UNSEEN)  # which makes it a class of which not all is known
        elif isinstance(made, (ClassValue, FunctionValue, Partial)):
            value = made
    return value


def _own(value: Value) -> bool:
    """Whether a decorator is the project's own, whatever it is called."""
    return any(isinstance(option, (FunctionValue, ClassValue, Partial)) for option in options(value))


def _applied(i: Interpreter, decorator: Value, value: Value, node: tree.Expression) -> Value:
    """What a decorator gives for a value."""
    from gradcheck_lint.source.calls import apply
    from gradcheck_lint.source.interpret import Arguments

    call = node if isinstance(node, tree.Call) else tree.Call(node.at, node, [])
    if isinstance(decorator, FunctionValue):
        i.spotted.note(decorator)
        key = id(decorator.function)
        if i.registers.get(key, 0) >= REGISTER:
            i.spotted.given(value)
            i.escape([value, *free_values(i, decorator)])  # where it enters it, others may be
            return value
        before = i.turned
        # whatever its text says: what it gives is what is called
        made = i.follow(decorator, Arguments([value], {}), node, forced=True)
        quiet = made is value and i.turned == before
        i.registers[key] = i.registers.get(key, 0) + 1 if quiet else -sys.maxsize
        return made
    if isinstance(decorator, (ClassValue, Partial)):
        return apply(i, decorator, Arguments([value], {}), call)
    thing = only(decorator)
    origin = decorator.name if isinstance(decorator, External) else thing.detail.get("origin", "") if thing else ""
    return value if known(origin) and not origin.startswith("functools.singledispatch") else UNSEEN


def unwrapped(function: FunctionValue) -> FunctionValue:
    """The function without its decorators."""
    bare = FunctionValue(function.function, function.home, function.scope, function.owner, function.receiver)
    bare.chunk, bare.manages, bare.bare = function.chunk, function.manages, True
    return bare


def call(i: Interpreter, target: FunctionValue, args: Arguments, node: tree.Call) -> Value | None:
    """Call what the decorators made of a function; None if the function itself is called."""
    from gradcheck_lint.source.calls import apply
    from gradcheck_lint.source.interpret import Arguments
    from gradcheck_lint.source.touch import unknown

    if target.bare:
        return None
    _late(i, target)
    if id(target.function) in i.wrapped:
        target.wrapper, target.manages = i.wrapped[id(target.function)]
    wrapper = target.wrapper
    under_way = id(target.function) in i.unwrapping  # what the decorators made may be the function itself, on a path
    if wrapper is None or under_way or any(f.function is target.function for f in i.frames):
        return None
    if wrapper is UNSEEN or (isinstance(wrapper, Thing) and wrapper.role == "opaque"):
        result = apply(i, unwrapped(target), args, node)
        found = held(i, wrapper, target.receiver, *args.all())
        if found:
            unknown(i, node, found.subject, target.function.name)
        return result
    given = (
        args if target.receiver is None else Arguments([target.receiver, *args.positional], args.keywords, args.open)
    )
    i.unwrapping.add(id(target.function))
    try:
        return apply(i, wrapper, given, node)
    finally:
        i.unwrapping.discard(id(target.function))
