"""Calls that give back their model and optimizer wrapped: DataParallel, compile, prepare."""

from __future__ import annotations

from gradcheck_lint.source import tree
from gradcheck_lint.source.natures import Module, Optimizer
from gradcheck_lint.source.run import parts
from gradcheck_lint.source.run.arguments import Arguments
from gradcheck_lint.source.run.machine import Machine
from gradcheck_lint.source.tree import Container
from gradcheck_lint.source.values import Items, Thing, Value, only, things


def wrap(machine: Machine, args: Arguments, node: tree.Call) -> Value | None:
    """Wrappers give back what they were given: one thing, or a tuple of them."""
    given = args.positional or list(args.keywords.values())
    wrapped: list[Value] = []
    for value in given:
        thing = only(value)
        if thing is not None and isinstance(thing.what, Module):
            made = Thing(Module(), thing.label, machine.place(node), deps=thing.deps, certain=thing.certain)
            made.wraps = thing
            wrapped.append(made)
        else:
            wrapped.append(value)
    if not any(isinstance(t.what, (Module, Optimizer)) for v in given for t in things(v)):
        if len(wrapped) == 1:
            return wrapped[0]
        return None
    name = tree.last_name(node.func)
    if name.startswith("wrap"):
        parts.given(machine, node, given)
    if len(wrapped) == 1 or name in (
        "DataParallel",
        "DistributedDataParallel",
        "DDP",
        "FullyShardedDataParallel",
        "FSDP",
        "compile",
        "fully_shard",
        "DistributedOptimizer",
        "convert_sync_batchnorm",
        "script",
        "prepare_model",
    ):
        return wrapped[0]
    return Items(Container.TUPLE, wrapped, bool(args.positional), machine.place(node))
