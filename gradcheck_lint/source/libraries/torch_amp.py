"""GradScaler."""

from __future__ import annotations

from gradcheck_lint.source import events as ev
from gradcheck_lint.source import tree
from gradcheck_lint.source.deps import depends
from gradcheck_lint.source.natures import Argument, LossScaled, Opaque, Scaler
from gradcheck_lint.source.run.arguments import Arguments
from gradcheck_lint.source.run.library import method
from gradcheck_lint.source.run.machine import Machine
from gradcheck_lint.source.values import NONE, Constant, Thing, Value, things


def switched_off(scaler: Thing) -> bool:
    """Whether it was built with `enabled=False`, and does nothing."""
    args = scaler.args
    flag = args.keywords.get("enabled") if isinstance(args, Arguments) else None
    return isinstance(flag, Constant) and flag.value is False


@method("unscale_")
def _unscale(machine: Machine, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    if not any(switched_off(t) for t in things(base)):
        machine.emit(node, ev.Unscale(args.get(0, "optimizer"), scaler=base))
    return NONE


@method("update")
def _update(machine: Machine, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    if any(isinstance(t.what, Scaler) for t in things(base)):
        machine.emit(node, ev.Update(base))
        return NONE
    return None


@method("scale")
def _scale(machine: Machine, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    if not args.positional:
        return None
    value = args.positional[0]
    if all(isinstance(t.what, Opaque) and isinstance(t.via, Argument) for t in things(base)) and things(base):
        # a parameter that may be a scaler
        return Thing(LossScaled(maybe=True), "", machine.place(node), deps=depends(value), certain=False)
    if not any(isinstance(t.what, Scaler) for t in things(base)):
        return None
    if any(switched_off(t) for t in things(base)):
        return value
    return Thing(LossScaled(value, base), "", machine.place(node), deps=depends(value), certain=False)
