"""Backward, however it is called."""

from __future__ import annotations

import re

from gradcheck_lint.source import events as ev
from gradcheck_lint.source import tree
from gradcheck_lint.source.natures import Instance, LossScaled, Module, Optimizer, Scaler, Super, natures_of
from gradcheck_lint.source.run.arguments import Arguments
from gradcheck_lint.source.run.library import function, method
from gradcheck_lint.source.run.machine import Machine
from gradcheck_lint.source.values import NONE, Constant, External, Value, things


@function("torch.autograd.backward")
def _autograd_backward(machine: Machine, args: Arguments, node: tree.Call) -> Value | None:
    loss = args.get(0, "tensors")
    emit_backward(machine, node, loss, args, scaled=any(isinstance(t.what, LossScaled) for t in things(loss)))
    return NONE


@function("torch.set_grad_enabled", "torch.autograd.set_grad_enabled", "torch._C._set_grad_enabled")
def _set_grad_enabled(machine: Machine, args: Arguments, node: tree.Call) -> Value | None:
    """As a statement it switches grad mode for good; a `with` switches back where it is left."""
    statement = machine.frame.statement
    if not isinstance(statement, tree.With):
        given = args.get(0, "mode") or args.get(0, "enabled")
        known = isinstance(given, Constant) and given.value is not ...
        alone = tree.alone(statement, node)
        machine.emit(node, ev.GradMode(bool(given.value) if alone and known and isinstance(given, Constant) else None))
    return None


_ENGINE = re.compile(r"(?i)accelerat|fabric|engine|trainer|strategy|optim|self|manager|deepspeed|scaler|backend|plugin")


def emit_backward(
    machine: Machine, node: tree.Call, loss: Value | None, args: Arguments, scaled: bool, engine: bool = False
) -> None:
    retain = args.keywords.get("retain_graph")
    machine.emit(
        node,
        ev.Backward(
            loss, scaled=scaled, engine=engine,
            retain=retain, inputs=args.keywords.get("inputs"), create_graph=args.keywords.get("create_graph"),
        ),
    )  # fmt: skip


@method("backward")
def _backward(machine: Machine, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    thing = next(iter(things(base)), None)
    label = thing.label if thing is not None else ""
    if isinstance(base, External):
        return None
    engine = thing is not None and isinstance(thing.what, (Optimizer, Module, Instance, Super, Scaler))
    if args.positional and (engine or _ENGINE.search(label)):
        for wrapper in natures_of(base, Optimizer):  # no optimizer of torch has a backward: its step may clear as well
            wrapper.wrapper = True
        emit_backward(machine, node, args.positional[0], args, scaled=False, engine=True)
    else:
        scaled = [isinstance(t.what, LossScaled) for t in things(base)]
        unsure = (any(scaled) and not all(scaled)) or any(
            isinstance(t.what, LossScaled) and t.what.maybe for t in things(base)
        )
        emit_backward(machine, node, base, args, scaled=all(scaled) and bool(scaled) and not unsure, engine=unsure)
    return NONE
