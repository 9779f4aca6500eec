"""Methods of Lightning's modules and of Fabric, and their like in other frameworks."""

from __future__ import annotations

from gradcheck_lint.source import events as ev
from gradcheck_lint.source import tree
from gradcheck_lint.source.libraries import torch_autograd
from gradcheck_lint.source.natures import Module, Opaque
from gradcheck_lint.source.run import iteration
from gradcheck_lint.source.run.arguments import Arguments
from gradcheck_lint.source.run.library import method
from gradcheck_lint.source.run.machine import Machine
from gradcheck_lint.source.values import NONE, External, Thing, Value, things


@method("manual_backward")
def _manual_backward(machine: Machine, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    torch_autograd.emit_backward(machine, node, args.get(0, "loss"), args, scaled=False, engine=True)
    return NONE


@method("clip_grad_norm_", "clip_grad_value_", "clip_gradients")
def _clip_method(machine: Machine, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    if isinstance(base, External):
        return None
    thing = next(iter(things(base)), None)
    for value in args.positional[:1]:
        iteration.consume(machine, value, node.args[0].value, "clip")
    used = not tree.alone(machine.frame.statement, node)
    if thing is not None and isinstance(thing.what, Module):
        machine.emit(node, ev.Clip(base, norm=args.get(0, "max_norm"), used=used, engine=True))
    else:
        machine.emit(node, ev.Clip(args.get(0, "parameters"), norm=args.get(1, "max_norm"), used=used, engine=True))
    return Thing(Opaque(), "", machine.place(node), certain=False)
