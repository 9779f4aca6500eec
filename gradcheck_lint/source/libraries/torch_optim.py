"""Optimizers and schedulers: building, clearing, stepping, groups, clipping."""

from __future__ import annotations

import re

from gradcheck_lint.source import events as ev
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source import tree
from gradcheck_lint.source.deps import depends
from gradcheck_lint.source.libraries import torch_amp
from gradcheck_lint.source.natures import (
    Instance,
    Module,
    ModuleLike,
    Opaque,
    Optimizer,
    Scaler,
    Scheduler,
    Stepping,
    Super,
)
from gradcheck_lint.source.run import iteration, objects, parts, rates, unseen
from gradcheck_lint.source.run.arguments import Arguments
from gradcheck_lint.source.run.library import method
from gradcheck_lint.source.run.machine import Machine
from gradcheck_lint.source.values import NONE, External, FunctionValue, Nature, Thing, Value, only, options, things


def build(machine: Machine, what: Nature, name: str, args: Arguments, node: tree.Call) -> Value:
    last = name.rpartition(".")[2]
    if (
        isinstance(what, Optimizer)
        and not name.startswith("torch.optim.")
        and not args.positional
        and "params" not in args.keywords
    ):
        return unseen.opaque(machine, last, None, args, node)
    wrapped = only(args.positional[0], Optimizer) if args.positional else None
    if isinstance(what, Optimizer) and wrapped is not None:
        return wrapped  # one optimizer around another: Lookahead(Adam(...)), DistributedOptimizer(...)
    thing = Thing(what, last, machine.place(node), cls=External(name), args=args, deps=depends(*args.all()))
    if isinstance(what, Optimizer):
        machine.optimizes = True
        what.params = parts.picture(args.get(0, "params"))
        found = [option for option in options(what.params) if not objects.is_none(option)]
        for value in found:
            iteration.consume_all(
                machine, value, node.args[0].value if node.args else node, last if len(found) == 1 else "?"
            )
    elif isinstance(what, Scheduler):
        what.optimizer = args.get(1 if last == "get_scheduler" else 0, "optimizer")
        if last == "LambdaLR":
            function = args.get(1, "lr_lambda")
            what.length = rates.lasts(machine, function)
            warm = rates.warms(machine, function)
            what.warm, what.warm_said = (warm.length, warm.said) if warm is not None else (None, "")
    elif isinstance(what, Module):
        machine.births[thing.serial] = (machine.depth, machine.looping)
        parts.composed(thing, args.positional)
    if isinstance(what, Optimizer):
        given = what.params
        machine.emit(
            node, ev.BuildOptimizer(thing, args=args, name=name, given=given, parts=parts.parts_in(machine, given))
        )
    else:
        machine.emit(node, ev.Build(thing, args=args, name=name))
    return thing


@method("zero_grad")
def _zero_grad(machine: Machine, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    for thing in things(base):
        if isinstance(thing.what, Stepping):
            thing.what = Optimizer()
            machine.unsettled = True  # in this round of a loop it was not known yet what has stepped
        elif isinstance(thing.what, Opaque):
            thing.what = ModuleLike()
    machine.emit(node, ev.Zero(base, how="zero_grad"))
    return NONE


@method("step")
def _step(machine: Machine, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    thing = next(iter(things(base)), None)
    if thing is None:
        return None
    if isinstance(thing.what, Opaque) and not args.all() and not args.open and not _ENGINE.search(thing.label):
        _learn(thing)
    if isinstance(thing.what, Optimizer):
        closure = args.get(0, "closure")
        followed = closure if isinstance(closure, FunctionValue) else None
        if followed is not None:
            machine.sequence.steps.append(_in_closure(machine, followed, node))
        machine.emit(
            node, ev.Step(base, scaler=None, closure=closure, called=_function_called(machine, node), args=args)
        )
        return Thing(Opaque(), "", machine.place(node), certain=False)
    if isinstance(thing.what, Scaler) and args.positional:
        scaler = None if torch_amp.switched_off(thing) else base
        machine.emit(node, ev.Step(args.positional[0], scaler=scaler, closure=None, args=args))
        return Thing(Opaque(), "", machine.place(node), certain=False)
    if isinstance(thing.what, Scheduler):
        machine.emit(node, ev.Schedule(base, args=args))
        return NONE
    if isinstance(thing.what, (Module, Opaque)) and _ENGINE.search(thing.label):
        machine.emit(node, ev.Unknown(None, name="step"))
        return NONE
    if isinstance(thing.what, (Instance, Super)):
        machine.emit(node, ev.Unknown(None, name="step"))
        return NONE
    return None


_ENGINE = re.compile(r"(?i)engine|model")


def _learn(thing: Thing) -> None:
    """Something steps: an optimizer if it was seen to clear gradients and was never called."""
    if isinstance(thing.what, ModuleLike):
        thing.what = Optimizer()
    elif not thing.summary:
        thing.what = Stepping()


def _function_called(machine: Machine, node: tree.Call) -> Value | None:
    """The function that `step(f(x))` calls to get its argument."""
    given = node.args[0].value if node.args else None
    if isinstance(given, tree.Call) and tree.dotted(given.func):
        return machine.eval(given.func)
    return None


def _in_closure(machine: Machine, closure: FunctionValue, node: tree.Call) -> tl.Sequence:
    saved, machine.sequence = machine.sequence, tl.Sequence()
    made = machine.sequence
    machine.follow(closure, Arguments([], {}), node)
    machine.sequence = saved
    return made


@method("add_param_group")
def _add_group(machine: Machine, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    group = parts.picture(args.get(0, "param_group"))
    for thing in things(base):
        if group is not None and isinstance(thing.what, Optimizer):
            thing.what.added.append(group)
    machine.emit(node, ev.AddGroup(base, group=group, parts=parts.parts_in(machine, group)))
    return NONE


def clip(machine: Machine, args: Arguments, node: tree.Call) -> Value:
    parameters = args.get(0, "parameters")
    found = [option for option in options(parameters) if not objects.is_none(option)]
    for value in found:
        iteration.consume_all(
            machine, value, node.args[0].value if node.args else node, "clip" if len(found) == 1 else "?"
        )
    used = not tree.alone(machine.frame.statement, node)
    machine.emit(node, ev.Clip(parameters, norm=args.get(1, "max_norm"), used=used))
    return Thing(Opaque(), "", machine.place(node), certain=False)
