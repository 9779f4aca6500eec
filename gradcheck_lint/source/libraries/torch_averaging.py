"""Averages of the weights of a model: `torch.optim.swa_utils`."""

from __future__ import annotations

from gradcheck_lint.source import events as ev
from gradcheck_lint.source import tree
from gradcheck_lint.source.natures import Module
from gradcheck_lint.source.run.arguments import Arguments
from gradcheck_lint.source.run.library import function, method
from gradcheck_lint.source.run.machine import Machine
from gradcheck_lint.source.values import NONE, External, Thing, Value, only

AVERAGE = "torch.optim.AveragedModel"


@function(AVERAGE)
def _average(machine: Machine, args: Arguments, node: tree.Call) -> Value | None:
    """A copy of a model, whose weights are averaged with those of the model whenever it is told to."""
    made = Thing(Module(), "", machine.place(node), cls=External(AVERAGE), args=args)
    made.copy_of = only(args.get(0, "model"))
    machine.emit(node, ev.Build(made, name=AVERAGE, args=args))
    return made


@method("update_parameters")
def _update_parameters(machine: Machine, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    thing = only(base, Module)
    if thing is None or thing.class_name != AVERAGE:
        return None
    machine.emit(node, ev.Average(thing, model=args.get(0, "model")))
    return NONE
