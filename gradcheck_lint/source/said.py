"""What an event does, and what a value is taken for, in words."""

from __future__ import annotations

from functools import singledispatch

from gradcheck_lint.laws.mode import OFF
from gradcheck_lint.source import events as ev
from gradcheck_lint.source.natures import (
    Instance,
    Module,
    Opaque,
    Optimizer,
    Parameters,
    Scaler,
    Scheduler,
    StateDict,
    Tensor,
)
from gradcheck_lint.source.values import Choice, Constant, Thing, Value, options


def taken_for(value: Value | None) -> str:
    """What the analysis takes a value for: "`opt`, an Adam"; "something unknown" if that is nothing it knows."""
    if value is None:
        return "something unknown"
    found = list(dict.fromkeys(_one(option) for option in options(value)))
    return (
        found[0] if len(found) == 1 else "one of several: " + "; ".join(found[:3]) + ("; …" if len(found) > 3 else "")
    )


def _one(value: Value) -> str:
    if isinstance(value, Constant):
        return "a constant" if value.value is ... else f"`{value.value!r}"[:40] + "`"
    if isinstance(value, Choice):
        return taken_for(value)
    if not isinstance(value, Thing):
        return "something unknown"
    what = _nature(value)
    if value.label and not isinstance(value.what, Parameters):
        return f"`{value.label}` ({what})"
    return what


def _nature(thing: Thing) -> str:
    what, name = thing.what, thing.class_name.rpartition(".")[2]
    sure = "" if thing.certain else ", by its name or use"
    if isinstance(what, Optimizer):
        return f"optimizer{name and f' of class {name}'}{sure}"
    if isinstance(what, Module):
        return f"module{name and f' of class {name}'}{sure}"
    if isinstance(what, Scheduler):
        return f"scheduler{name and f' of class {name}'}"
    if isinstance(what, Scaler):
        return "gradient scaler"
    if isinstance(what, Parameters):
        return "parameters" + (f" of {taken_for(what.of)}" if what.of is not None else "")
    if isinstance(what, StateDict):
        return f"state dict of {taken_for(what.of)}"
    if isinstance(what, Tensor):
        grad = "" if what.grad is None else ", requires grad" if what.grad else ", does not require grad"
        return ("leaf tensor" if what.leaf else "non-leaf tensor" if what.leaf is False else "tensor") + grad
    if isinstance(what, Instance):
        return f"object of class {name}" if name else "object"
    return "result of a computation" if isinstance(what, Opaque) and thing.deps else "unknown"


@singledispatch
def said(event: ev.Event) -> str:
    """What an event does; "" for one that says nothing about training."""
    return ""


@said.register
def _(event: ev.Zero) -> str:
    return f"clears the gradients of {taken_for(event.subject)}"


@said.register
def _(event: ev.Backward) -> str:
    scaled = ", multiplied by the loss scale" if event.scaled else ""
    return f"runs backward from {taken_for(event.subject)}{scaled}"


@said.register
def _(event: ev.Unscale) -> str:
    return f"unscales the gradients of {taken_for(event.subject)}"


@said.register
def _(event: ev.Clip) -> str:
    return f"clips the gradients of {taken_for(event.subject)}"


@said.register
def _(event: ev.Step) -> str:
    return f"steps {taken_for(event.subject)}" + (" through a gradient scaler" if event.scaler is not None else "")


@said.register
def _(event: ev.Update) -> str:
    return "updates the loss scale"


@said.register
def _(event: ev.Schedule) -> str:
    return f"moves the learning rate by {taken_for(event.subject)}"


@said.register
def _(event: ev.Unknown) -> str:
    whose = "of anything" if event.subject is None else f"of {taken_for(event.subject)}"
    return f"is not followed: it may clear, fill or use the gradients {whose}"


@said.register
def _(event: ev.GradWrite) -> str:
    return f"writes `.grad` of {taken_for(event.subject)}"


@said.register
def _(event: ev.GradChange) -> str:
    return f"may change the gradients of {taken_for(event.subject)} in place"


@said.register
def _(event: ev.Build) -> str:
    return f"makes {taken_for(event.subject)}"


@said.register
def _(event: ev.BuildOptimizer) -> str:
    return f"makes {taken_for(event.subject)}, which holds {taken_for(event.given)}"


@said.register
def _(event: ev.AddGroup) -> str:
    return f"adds a parameter group to {taken_for(event.subject)}"


@said.register
def _(event: ev.LoadState) -> str:
    return f"loads a state dict into {taken_for(event.subject)}"


@said.register
def _(event: ev.Forward) -> str:
    return f"calls {taken_for(event.subject)}" + (", and records nothing for backward" if event.context & OFF else "")


@said.register
def _(event: ev.SetMode) -> str:
    mode = "one of the modes" if event.training is None else "training mode" if event.training else "evaluation mode"
    return f"puts {taken_for(event.subject)} into {mode}"


@said.register
def _(event: ev.Move) -> str:
    return f"moves or converts {taken_for(event.subject)}"


@said.register
def _(event: ev.Freeze) -> str:
    value = "something unknown" if event.value is None else str(event.value)
    return f"sets `requires_grad` of {taken_for(event.subject)} to {value}"


@said.register
def _(event: ev.Register) -> str:
    return f"gives {taken_for(event.subject)} a part"


@said.register
def _(event: ev.Grow) -> str:
    return f"is not followed: it may exchange or unfreeze parts of {taken_for(event.subject)}"


@said.register
def _(event: ev.Hook) -> str:
    return f"registers a hook on {taken_for(event.subject)} that may turn the gradient cycle"


@said.register
def _(event: ev.SetAttribute) -> str:
    return f"sets an attribute of {taken_for(event.subject)} to {taken_for(event.value)}"


@said.register
def _(event: ev.Rebind) -> str:
    return f"what was {taken_for(event.subject)} is now {taken_for(event.value)}"
