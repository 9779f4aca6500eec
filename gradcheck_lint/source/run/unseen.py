"""A call of code that is not seen: what it may do, what it gets hold of, and what it gives."""

from __future__ import annotations

from collections.abc import Iterable

from gradcheck_lint.laws.mode import OFF
from gradcheck_lint.source import torch_api, tree
from gradcheck_lint.source.deps import cut_off, depends, united
from gradcheck_lint.source.effort import spend
from gradcheck_lint.source.natures import Instance, Module, Opaque, Optimizer, Scaler, StateDict, Tensor
from gradcheck_lint.source.run import gradients, iteration, parts
from gradcheck_lint.source.run.arguments import Arguments
from gradcheck_lint.source.run.holdings import callables
from gradcheck_lint.source.run.machine import Machine
from gradcheck_lint.source.run.touch import EXECUTING, absorb, known, made_of, python, told, touch
from gradcheck_lint.source.tree import Container
from gradcheck_lint.source.values import Items, Table, Thing, Value, contents, options


def escape(values: Iterable[Value]) -> None:
    """Code that cannot be seen gets hold of values: it may fill lists, and do anything to what has an identity."""
    todo = list(values)
    while todo:
        for option in options(todo.pop()):
            spend(1)
            if isinstance(option, (Items, Table)):
                if not (isinstance(option, Items) and option.kind is Container.TUPLE):
                    option.complete = False
                    if isinstance(option, Items):
                        option.strange = True
                if isinstance(option, Items):
                    option.over = None
                inner = option.items if isinstance(option, Items) else option.entries.values()
                fresh = len(inner) - option.escaped
                option.escaped = len(inner)
                if fresh > 0:  # what was in it before is out already
                    todo += [value for value, _ in zip(reversed(inner), range(fresh), strict=False)]
            elif isinstance(option, Thing) and isinstance(option.what, _ESCAPING):
                option.root.escape()


_ESCAPING = (Optimizer, Module, Tensor, StateDict, Instance)


def opaque(
    machine: Machine,
    name: str,
    receiver: Thing | None,
    args: Arguments,
    node: tree.Call,
    outside: str = "",
) -> Value:
    """A call that cannot be followed."""
    touch(machine, name, receiver, args, node, outside)
    if not known(outside):
        for value in args.all():
            machine.spotted.given(value)
    absorb(receiver, name, args)
    escape(args.all())
    if not told(name, receiver) and (parts.reshapes(outside) if known(outside) else not parts.looks(name)):
        parts.given(machine, node, [receiver, *args.all()])
    owner = parts.holder(receiver) if receiver is not None and name in _PUTTING else None
    if owner is not None:
        for value in contents(Items(Container.LIST, args.all())):
            parts.owned(value, owner, "")
    if receiver is not None and isinstance(receiver.what, Module):
        receiver.root.escape()
    for value in args.all():
        iteration.consume(machine, value, node, "?")
        if not torch_api.READING.search(name):
            gradients.change_grads(machine, value, node)
    made = receiver.deps if receiver is not None else frozenset()
    smooth = name in torch_api.SMOOTH if not isinstance(node.func, tree.Name) else False
    if not smooth:
        made = cut_off(made)
    if receiver is not None and isinstance(receiver.what, (Module, Optimizer, Scaler)):
        made = united(made, frozenset((receiver,)))
    deps: frozenset[Thing] = frozenset()
    if not machine.frame.context & OFF:
        deps = united(made, _through(name, args, smooth))
    return origin(Thing(Opaque(), name, machine.place(node), deps=deps, certain=False), receiver, args, outside)


_PUTTING = frozenset(
    {"append", "insert", "extend", "update", "setdefault", "set_submodule", "__setattr__", "__setitem__"}
)
"""Methods of modules, and of their dicts, that put what they are given into them."""


def origin(made: Thing, receiver: Thing | None, args: Arguments, outside: str) -> Thing:
    """Note on a thing that unseen code made which package did, or what it may hold."""
    origin = outside or (receiver.origin if receiver is not None else "")
    if outside in EXECUTING:
        made.anything = True
    elif known(origin):
        made.origin = origin
        made.values = made_of(args.all() if python(origin) else [v for v in args.all() if callables(v)])
    elif receiver is not None and receiver.anything:
        made.anything = True
    else:
        held_by = [receiver] if receiver is not None and isinstance(receiver.what, Opaque) and receiver.values else []
        made.values = made_of([*held_by, *args.all()])
    return made


def _through(name: str, args: Arguments, smooth: bool) -> frozenset[Thing]:
    """What the arguments of a call of unknown code bring: backward goes through a criterion, whatever it may be."""
    deps = depends(*args.all())
    return deps if smooth or torch_api.CRITERION_NAME.search(name) else cut_off(deps)
